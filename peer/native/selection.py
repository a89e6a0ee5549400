"""The best product keys of each query: products by torch, a chunk at a time, selection in cache.

What K of the maxima of a row's interleaved parts reach, K of its entries reach: a bound found by
halving, so that about 22 entries of any number are candidates for K = 16. A candidate's place is
the number of larger ones, counted without a branch; equal ones go by name. The merge does the same
with the pairs of the staircase (a+1)(b+1) ≤ K (see `peer.aten.retrieve`). What is not a number
counts as infinite.
"""

import math

import numpy
import torch
from torch import Tensor

from peer.native.threads import compiled, run, share_out

CHUNK_BYTES = 2 * 2**20  # of the products of both halves at a time
ROWS = 32  # of a share
LANES = 32  # interleaved parts at a time, four registers of eight; twice K of them, about
HALVINGS = 8
SCORES = ("softmax", "sigmoid", "relu", "raw")


def retrieve(query_THQ: Tensor, sub_keys: Tensor, topk: int, scores: str) -> tuple[Tensor, Tensor]:
    """As `peer.reference.retrieve`; scores are float32 for 16-bit inputs."""
    T, H, _ = query_THQ.shape
    S = sub_keys.shape[-2]
    wide = torch.promote_types(query_THQ.dtype, torch.float32)
    query, keys = query_THQ.detach().to(wide).unflatten(-1, (2, -1)), sub_keys.detach().to(wide)
    best_THK = torch.empty(T, H, topk, dtype=wide)
    ids_THK = torch.empty(T, H, topk, dtype=torch.int32)
    results = best_THK.view(-1), ids_THK.view(-1), topk, SCORES.index(scores)
    # Heads with the same sub-keys are further rows of one product.
    sets = 1 if keys.dim() == 3 else H
    queries = query.flatten(0, 1).unsqueeze(0) if sets == 1 else query.transpose(0, 1)
    keys = keys.view(2, sets, S, -1)
    rows_at_once = max(1, min(CHUNK_BYTES // (2 * S * wide.itemsize), queries.shape[1]))
    products = torch.empty(2, rows_at_once, S, dtype=wide)
    for index in range(sets):
        for start in range(0, queries.shape[1], rows_at_once):
            some = queries[index, start : start + rows_at_once]
            for half in range(2):
                out = products[half, : some.shape[0]]
                torch.mm(some[:, half], keys[half, index].t(), out=out)
            shares = -(-some.shape[0] // ROWS)
            run(choices, shares, products, some.shape[0], index + start * sets, sets, *results)
    return best_THK, ids_THK


@compiled()
def choices(start, threads, shares, *arguments):
    share_out(choose, shares, arguments, start, threads)


@compiled()
def choose(share, products, rows, first, step, scores, ids, K, kind):
    """Rows of a share; row r of the products is row first + r · step of the results."""
    room = scratch(products, K)
    for r in range(share * ROWS, min((share + 1) * ROWS, rows)):
        choose_one(products, r, scores, ids, (first + r * step) * K, K, kind, *room)


@compiled()
def scratch(products, K):
    """What `choose_one` takes last: lanes, lists of K, candidates and the same in order."""
    real, size = products.dtype, max(products.shape[2], K * K) + 1
    return (
        numpy.empty(LANES * max(1, (K + 15) // 16), real),
        numpy.empty((2, K), real),
        numpy.empty((2, K), numpy.int32),
        numpy.empty(size + LANES, real),
        numpy.empty(size, real),
        numpy.empty(size, numpy.int32),
        numpy.empty(size, numpy.int32),
        numpy.empty(size, real),
        numpy.empty(size, real),
        numpy.empty(size, numpy.int32),
    )


@compiled()
def choose_one(
    products, r, scores, ids, at, K, kind,
    lanes, best, places, keys, values, names, before, key_at, value_at, name_at,
):  # fmt: skip
    """Row r's K scores and ids, from `at` on."""
    for half in range(2):
        bound = threshold(products, half, r, K, lanes)
        n = candidates(products, half, r, bound, keys, values, names)
        rank(n, keys, values, names, before, key_at, value_at, name_at)
        for k in range(K):
            best[half, k], places[half, k] = value_at[k], name_at[k]
    n = pairs(best, places, products.shape[2], keys, values, names)
    rank(n, keys, values, names, before, key_at, value_at, name_at)
    for k in range(K):
        scores[at + k], ids[at + k] = value_at[k], name_at[k]
    apply(kind, scores, at, K)


@compiled()
def threshold(products, half, r, K, lanes):
    """A bound that at least K entries of a row reach, and few more."""
    S, L = products.shape[2], lanes.shape[0]
    if S < 2 * L:
        return products.dtype.type(-math.inf)
    for lane in range(L):
        lanes[lane] = products[half, r, lane]
    s = L
    while s + L <= S:
        if s + 4 * L <= S:
            raise_by_four(lanes, products, half, r, s)
            s += 4 * L
        else:
            raise_by_one(lanes, products, half, r, s)
            s += L
    low = high = lanes[0]
    for lane in range(L):
        if not abs(lanes[lane]) < math.inf:
            return products.dtype.type(-math.inf)
        low, high = min(low, lanes[lane]), max(high, lanes[lane])
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = reaching(lanes, middle)
        if found >= K:
            low = middle
        else:
            high = middle
        if found == K:
            break
    return low


@compiled()
def raise_by_one(lanes, products, half, r, s):
    for lane in range(lanes.shape[0]):
        lanes[lane] = numpy.maximum(lanes[lane], products[half, r, s + lane])


@compiled()
def raise_by_four(lanes, products, half, r, s):
    L = lanes.shape[0]
    for lane in range(L):
        at = s + lane
        one = numpy.maximum(products[half, r, at], products[half, r, at + L])
        other = numpy.maximum(products[half, r, at + 2 * L], products[half, r, at + 3 * L])
        lanes[lane] = numpy.maximum(lanes[lane], numpy.maximum(one, other))


@compiled("reassoc")
def reaching(keys, bound):
    """How many keys are no smaller, counted in their own type: whole registers."""
    count = keys.dtype.type(0)
    for i in range(keys.shape[0]):
        count += keys.dtype.type(1) if keys[i] >= bound else keys.dtype.type(0)
    return count


@compiled()
def candidates(products, half, r, bound, keys, values, names):
    """The entries of a row from `bound` on, in order: their number."""
    n = 0
    infinity = products.dtype.type(math.inf)
    for s in range(products.shape[2]):
        value = products[half, r, s]
        key = value if value == value else infinity
        keys[n], values[n], names[n] = key, value, s
        n += key >= bound
    return n


@compiled()
def pairs(best, places, S, keys, values, names):
    """The pairs of the staircase that can be among the K best: their number."""
    K = best.shape[1]
    infinity = best.dtype.type(math.inf)
    bound = -infinity
    for a in range(K):
        total = best[0, a] + best[1, (K + a) // (a + 1) - 1]
        bound = max(bound, total if total == total else infinity)
    n = 0
    for a in range(K):
        for b in range(K // (a + 1)):
            total = best[0, a] + best[1, b]
            key = total if total == total else infinity
            if key < bound:
                break
            keys[n], values[n], names[n] = key, total, places[0, a] * S + places[1, b]
            n += 1
    return n


@compiled("reassoc")
def larger(keys, n, bound):
    """How many of the first n are larger, counted in their own type: whole registers."""
    count = keys.dtype.type(0)
    for i in range(n):
        count += keys.dtype.type(1) if keys[i] > bound else keys.dtype.type(0)
    return count


@compiled()
def rank(n, keys, values, names, before, key_at, value_at, name_at):
    """Puts n candidates in order, the largest key first, of equal ones the lowest name."""
    padded = (n + LANES - 1) // LANES * LANES
    for i in range(n, padded):
        keys[i] = -math.inf
    for i in range(n):
        before[i] = 0
    for i in range(n):
        place = int(larger(keys, padded, keys[i]))
        before[place] += 1
        place += before[place] - 1
        key_at[place], value_at[place], name_at[place] = keys[i], values[i], names[i]
    for end in range(1, n):
        i = end
        while i > 0 and key_at[i - 1] == key_at[i] and name_at[i - 1] > name_at[i]:
            value_at[i - 1], value_at[i] = value_at[i], value_at[i - 1]
            name_at[i - 1], name_at[i] = name_at[i], name_at[i - 1]
            i -= 1


@compiled()
def apply(kind, scores, at, K):
    """The nonlinearity of K matches, best first, in place."""
    if kind == 0:
        best, total = scores[at], scores.dtype.type(0)
        for k in range(at, at + K):
            scores[k] = math.exp(scores[k] - best)
            total += scores[k]
        for k in range(at, at + K):
            scores[k] /= total
    elif kind == 1:
        for k in range(at, at + K):
            scores[k] = 1 / (1 + math.exp(-scores[k]))
    elif kind == 2:
        for k in range(at, at + K):
            scores[k] = scores[k] if not scores[k] < 0 else 0
