"""The best product keys of each query: products by torch, a chunk at a time, selection in cache.

What K entries of a row reach, the K best of it reach: a bound found by halving, a few more than K entries
from it on. Of long rows the maxima of interleaved parts are halved: what K of them reach, K entries
reach. A candidate's place is the number of those before it, larger or equal with a lower name, counted
for sixteen at a time without a branch. The merge does the same with the pairs of the staircase
(a+1)(b+1) ≤ K (see `peer.aten.retrieve`). What is not a number counts as infinite.
"""

import math

import numpy
import torch
from torch import Tensor

from peer.native.lanes import WIDTH, places, reaching
from peer.native.threads import compiled, run, share_out

CHUNK_BYTES = 2 * 2**20  # of the products of both halves at a time
ROWS = 32  # of a share
LANES = 32  # interleaved parts at a time, four registers of eight; twice K of them, about
WHOLE = 256  # entries of a row that are compared with a bound themselves, without maxima of parts
HALVINGS = 8
DEVIATIONS = 2  # of the mean, within which bounds are tried
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
    low, high = share * ROWS, min((share + 1) * ROWS, rows)
    at = (first + low * step) * K
    choose_rows(products, low, high, scores, ids, at, step * K, K, kind, *scratch(products, K))


@compiled()
def scratch(products, K):
    """What `choose_rows` takes last: lanes, the staircase, lists of K, candidates and the same in order."""
    S, real = products.shape[2], products.dtype
    size = max(S, K * K) + WIDTH
    stairs = numpy.empty(K, numpy.int32)
    for a in range(K):
        stairs[a] = K // (a + 1)
    return (
        numpy.empty((S if S <= WHOLE else LANES * max(1, (K + 15) // 16)) + WIDTH, real),
        stairs,
        numpy.empty((2, K), real),
        numpy.empty((2, K), numpy.int32),
        numpy.empty(size, real),
        numpy.empty(size, real),
        numpy.empty(size, numpy.int32),
        numpy.empty(size, numpy.uint32),
        numpy.empty(size, real),
        numpy.empty(size, numpy.int32),
    )


@compiled()
def choose_rows(
    products, low, high, scores, ids, at, step, K, kind,
    lanes, stairs, best, places, keys, values, names, place, value_at, name_at,
):  # fmt: skip
    """The K scores and ids of each row from `low` to `high`: the first's from `at` on, and so by `step`.

    All in one call, which takes longer than the rest where it is made for every row.
    """
    for r in range(low, high):
        for half in range(2):
            bound = threshold(products, half, r, K, lanes)
            n = candidates(products, half, r, bound, keys, values, names)
            rank(n, keys, values, names, place, value_at, name_at)
            for k in range(K):
                best[half, k], places[half, k] = value_at[k], name_at[k]
        n = pairs(best, places, stairs, products.shape[2], keys, values, names)
        rank(n, keys, values, names, place, value_at, name_at)
        for k in range(K):
            scores[at + k], ids[at + k] = value_at[k], name_at[k]
        apply(kind, scores, at, K)
        at += step


@compiled()
def threshold(products, half, r, K, lanes):
    """A bound that at least K entries of a row reach, and few more."""
    S = products.shape[2]
    L = min(S, lanes.shape[0] - WIDTH)
    for lane in range(L):
        lanes[lane] = products[half, r, lane]
    s = L
    while s + L <= S:
        if s + 4 * L <= S:
            raise_by_four(lanes, L, products, half, r, s)
            s += 4 * L
        else:
            raise_by_one(lanes, L, products, half, r, s)
            s += L
    bound = products.dtype.type(-math.inf)
    mean, deviation = moments(lanes, L)
    if not deviation < math.inf:
        return bound
    low, high = mean - DEVIATIONS * deviation, mean + DEVIATIONS * deviation
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = reaching(lanes, L, middle)
        if found >= K:
            low = bound = middle
        else:
            high = middle
        if K <= found <= K + K // 8:
            break
    return bound


@compiled("reassoc", "contract")
def moments(lanes, L):
    """Mean and standard deviation of most of the lanes; nothing finite where one is not.

    Whatever they are, a bound is one that K entries reach.
    """
    total = square = lanes.dtype.type(0)
    some = L if L < LANES else L - L % LANES
    for i in range(some):
        total += lanes[i]
        square += lanes[i] * lanes[i]
    mean = total / lanes.dtype.type(some)
    square = square / lanes.dtype.type(some) - mean * mean
    return mean, square if not square > 0 else numpy.sqrt(square)


@compiled()
def raise_by_one(lanes, L, products, half, r, s):
    for lane in range(L):
        lanes[lane] = numpy.maximum(lanes[lane], products[half, r, s + lane])


@compiled()
def raise_by_four(lanes, L, products, half, r, s):
    for lane in range(L):
        at = s + lane
        one = numpy.maximum(products[half, r, at], products[half, r, at + L])
        other = numpy.maximum(products[half, r, at + 2 * L], products[half, r, at + 3 * L])
        lanes[lane] = numpy.maximum(lanes[lane], numpy.maximum(one, other))


@compiled()
def candidates(products, half, r, bound, keys, values, names):
    """The entries of a row from `bound` on, in order: their number."""
    n = 0
    infinity = products.dtype.type(math.inf)
    for s in range(products.shape[2]):
        names[n] = s
        n += not products[half, r, s] < bound
    for i in range(n):
        value = products[half, r, names[i]]
        values[i], keys[i] = value, value if value == value else infinity
    return n


@compiled()
def pairs(best, places, stairs, S, keys, values, names):
    """The pairs of the staircase that can be among the K best: their number."""
    K = best.shape[1]
    infinity = best.dtype.type(math.inf)
    bound = -infinity
    for a in range(K):
        # (a + 1) · stairs[a] pairs reach this one, and those of a step more where they are too few.
        b = stairs[a] - (stairs[a] * (a + 1) == K)
        total = best[0, a] + best[1, b]
        bound = max(bound, total if total == total else infinity)
    n = 0
    for a in range(K):
        for b in range(stairs[a]):
            total = best[0, a] + best[1, b]
            key = total if total == total else infinity
            if key < bound:
                break
            keys[n], values[n], names[n] = key, total, places[0, a] * S + places[1, b]
            n += 1
        else:
            continue
        if b == 0:  # what follows is no better
            break
    return n


@compiled()
def rank(n, keys, values, names, place, value_at, name_at):
    """Puts n candidates in order, the largest key first, of equal ones the lowest name."""
    places(keys, names, n, place)
    for i in range(n):
        value_at[place[i]], name_at[place[i]] = values[i], names[i]


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
