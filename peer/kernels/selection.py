"""The K best of S² product keys per query, without the scores of the sub-keys ever reaching memory.

One program owns QUERIES tokens of one head. For each half of the query, matrix products give the
float32 scores of up to 1,024 sub-keys, which stay in registers as tiles of SLOTS columns, one per
lane, a row within one warp. A column of all tiles together is a block of sub-keys with consecutive
names. The K best sub-keys lie in the K blocks with the largest maxima: an element of any other block
is beaten by those K maxima. That holds with ties too, equal maxima taken by the lowest block. So K
blocks are selected by their maxima and gathered, each split over two columns: half as many tiles
remain. Once more and once more, until the K best are selected from what is left. Nothing is
inserted, nothing counted, and no case is special.

Selection takes the largest K times, equal ones by the lowest name. It works on a score's bits made
monotone (a negative float's lower 31 bits are inverted): integers have no NaN, so a NaN score can
spoil neither its neighbours nor the validity of an id; −0 is turned into +0 first, as they are
equal. A row lies in one warp, so no step of it meets a barrier.

Merge: with both halves sorted, the pair (a, b) is no larger than the (a+1)(b+1) − 1 pairs up and
left of it, so only pairs with (a+1)(b+1) ≤ K can be among the K best: 50 instead of 256 for K = 16.
Where rounding makes the sums of different halves equal, ids are compared within the staircase.
"""

# Triton has no starred expressions, and its tuples grow.
# ruff: noqa: RUF005
# mypy: disable-error-code=assignment

import torch
import triton
import triton.language as tl
from torch import Tensor

from peer.kernels import launch, tuned

NOTHING = tl.constexpr(-(2**31))
NOBODY = tl.constexpr(2**31 - 1)


@triton.jit
def monotone(score):
    """int32 in the order of the floats."""
    bits = (score + 0.0).to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def score_of(value):
    return (value ^ ((value >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def best_first(values, names, TILES: tl.constexpr, K: tl.constexpr, EACH: tl.constexpr):
    """The K largest of each row in order, equal ones by the lowest name; again from every EACH-th place
    on. `values` and `names` are TILES tiles of one shape, which the results have too.
    """
    place = tl.arange(0, values[0].shape[1])[None, :] % EACH
    best = tl.full(values[0].shape, NOTHING, tl.int32)
    chosen = tl.full(values[0].shape, NOBODY, tl.int32)
    for i in range(K):
        most = values[0]
        for t in tl.static_range(1, TILES):
            most = tl.maximum(most, values[t])
        largest = tl.max(most, axis=1)[:, None]
        least = tl.where(values[0] == largest, names[0], NOBODY)
        for t in tl.static_range(1, TILES):
            least = tl.minimum(least, tl.where(values[t] == largest, names[t], NOBODY))
        name = tl.min(least, axis=1)[:, None]
        best = tl.where(place == i, largest, best)
        chosen = tl.where(place == i, name, chosen)
        rest = ()
        for t in tl.static_range(TILES):
            rest = rest + (tl.where(names[t] == name, NOTHING, values[t]),)
        values = rest
    return best, chosen


@triton.jit
def narrowed(tiles, base, TILES: tl.constexpr, K: tl.constexpr, SLOTS: tl.constexpr):
    """The K columns of the tiles with the largest maxima, each split over two columns of half as many
    tiles, and the name of each column's first element. `base` are these names before.
    """
    HALF: tl.constexpr = TILES // 2
    slot = tl.arange(0, SLOTS)[None, :]
    maxima = tiles[0]
    for t in tl.static_range(1, TILES):
        maxima = tl.maximum(maxima, tiles[t])
    _, chosen = best_first((maxima,), (base * SLOTS + slot,), 1, K, SLOTS // 2)
    column = chosen % SLOTS
    taken = slot % (SLOTS // 2) < K
    left = slot < SLOTS // 2
    fewer = ()
    for t in tl.static_range(HALF):
        value = tl.where(
            left, tl.gather(tiles[t], column, 1), tl.gather(tiles[t + HALF], column, 1)
        )
        fewer = fewer + (tl.where(taken, value, NOTHING),)
    return fewer, chosen // SLOTS + tl.where(left, 0, HALF)


@triton.jit
def best_of_half(
    query_ptr,
    keys_ptr,
    query,
    count,
    stride,
    S: tl.constexpr,
    Q: tl.constexpr,
    K: tl.constexpr,
    QUERIES: tl.constexpr,
    SLOTS: tl.constexpr,
    CHUNKS: tl.constexpr,
    WIDTH: tl.constexpr,
    STEP: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The K largest matches of each query with the S sub-keys, sorted, and their names."""
    TILES: tl.constexpr = 4 * CHUNKS
    place = tl.arange(0, 4 * SLOTS)
    slot = tl.zeros((QUERIES, 1), tl.int32) + tl.arange(0, SLOTS)[None, :]
    best = tl.full((QUERIES, SLOTS), NOTHING, tl.int32)
    chosen = tl.full((QUERIES, SLOTS), NOBODY, tl.int32)
    for start in range(0, S, SLOTS * TILES):
        tiles = ()
        for chunk in tl.static_range(CHUNKS):
            name = start + place // 4 * TILES + chunk * 4 + place % 4
            score = tl.zeros((QUERIES, 4 * SLOTS), tl.float32)
            for left in range(0, WIDTH, STEP):
                column = left + tl.arange(0, STEP)
                rows = tl.load(
                    query_ptr + query[:, None] * stride + column[None, :],
                    mask=(query < count)[:, None] & (column < Q)[None, :],
                    other=0.0,
                )
                key = tl.load(
                    keys_ptr + name[None, :] * Q + column[:, None],
                    mask=(name < S)[None, :] & (column < Q)[:, None],
                    other=0.0,
                )
                if WIDEN:
                    rows, key = rows.to(tl.float32), key.to(tl.float32)
                score = tl.dot(rows, key, score, input_precision="ieee")
            value = monotone(score)
            if S % (SLOTS * TILES) != 0:
                value = tl.where((name < S)[None, :], value, NOTHING)
            even, odd = tl.split(tl.reshape(value, (QUERIES, SLOTS, 2, 2)))
            first, third = tl.split(even)
            second, fourth = tl.split(odd)
            tiles = tiles + (first, second, third, fourth)
        base = start + slot * TILES
        if CHUNKS >= 8:
            tiles, base = narrowed(tiles, base, 32, K, SLOTS)
        if CHUNKS >= 4:
            tiles, base = narrowed(tiles, base, 16, K, SLOTS)
        if CHUNKS >= 2:
            tiles, base = narrowed(tiles, base, 8, K, SLOTS)
        names = ()
        for t in tl.static_range(4):
            names = names + (base + t,)
        if S > SLOTS * TILES:
            best, chosen = best_first(
                tiles + (best,),
                names + (chosen,),
                5,
                K,
                SLOTS,
            )
        else:
            best, chosen = best_first(tiles, names, 4, K, SLOTS)
    return best, chosen


@triton.jit
def step_of_stairs(place, K: tl.constexpr):
    """The place-th pair (a, b) with (a+1)(b+1) ≤ K, row by row, and whether there are so many."""
    a = place * 0
    begin = place * 0
    edge = 0
    for i in tl.static_range(1, K):
        edge += K // i
        a = tl.where(place >= edge, i, a)
        begin = tl.where(place >= edge, edge, begin)
    edge += 1
    return a, tl.minimum(place - begin, K - 1), place < edge


@triton.jit(do_not_specialize=["T"])
def retrieve_kernel(
    query_ptr,
    keys_ptr,
    scores_ptr,
    ids_ptr,
    T,
    H: tl.constexpr,
    S: tl.constexpr,
    Q: tl.constexpr,
    PER_HEAD: tl.constexpr,
    NONLINEARITY: tl.constexpr,
    K: tl.constexpr,
    STAIRS: tl.constexpr,
    QUERIES: tl.constexpr,
    SLOTS: tl.constexpr,
    CHUNKS: tl.constexpr,
    WIDTH: tl.constexpr,
    STEP: tl.constexpr,
    WIDEN: tl.constexpr,
):
    head = tl.program_id(0) % H
    token = tl.program_id(0) // H * QUERIES
    query = tl.arange(0, QUERIES)
    count = T - token
    start = token.to(tl.int64) * H + head
    query_ptr += start * (2 * Q)
    other_ptr = keys_ptr + S * Q
    if PER_HEAD:
        other_ptr = keys_ptr + H * S * Q + head * (S * Q)
        keys_ptr += head * (S * Q)
    stride: tl.constexpr = H * 2 * Q
    above, row = best_of_half(
        query_ptr,
        keys_ptr,
        query,
        count,
        stride,
        S,
        Q,
        K,
        QUERIES,
        SLOTS,
        CHUNKS,
        WIDTH,
        STEP,
        WIDEN,
    )
    below, column = best_of_half(
        query_ptr + Q,
        other_ptr,
        query,
        count,
        stride,
        S,
        Q,
        K,
        QUERIES,
        SLOTS,
        CHUNKS,
        WIDTH,
        STEP,
        WIDEN,
    )
    slot = tl.arange(0, SLOTS)
    sums = ()
    experts = ()
    for t in tl.static_range(STAIRS // SLOTS):
        place = t * SLOTS + slot[None, :] + tl.zeros((QUERIES, 1), tl.int32)
        a, b, inside = step_of_stairs(place, K)
        total = score_of(tl.gather(above, a, 1)) + score_of(tl.gather(below, b, 1))
        expert = tl.gather(row, a, 1) * S + tl.gather(column, b, 1)
        sums = sums + (tl.where(inside, monotone(total), NOTHING),)
        experts = experts + (tl.where(inside, expert, NOBODY),)
    best, expert = best_first(sums, experts, STAIRS // SLOTS, K, SLOTS)

    rank = slot[None, :]
    score = score_of(best)
    if NONLINEARITY == "softmax":
        top = score_of(tl.max(best, axis=1))
        weight = tl.where(rank < K, tl.exp(score - top[:, None]), 0.0)
        score = weight / tl.sum(weight, axis=1)[:, None]
    elif NONLINEARITY == "sigmoid":
        score = 1.0 / (1.0 + tl.exp(-score))
    elif NONLINEARITY == "relu":
        score = tl.where(score < 0.0, 0.0, score)
    address = start * K + query[:, None] * (H * K) + rank
    mask = (query < count)[:, None] & (rank < K)
    tl.store(scores_ptr + address, score, mask=mask)
    tl.store(ids_ptr + address, expert, mask=mask)


def retrieve(query_THQ: Tensor, sub_keys: Tensor, topk: int, scores: str) -> tuple[Tensor, Tensor]:
    """Scores (T, H, K) float32 and ids (T, H, K) int32, best first."""
    (T, H, _), (S, Q) = query_THQ.shape, sub_keys.shape[-2:]
    query_THQ, sub_keys = query_THQ.contiguous(), sub_keys.contiguous()
    scores_THK = torch.empty(T, H, topk, dtype=torch.float32, device=query_THQ.device)
    ids_THK = torch.empty(T, H, topk, dtype=torch.int32, device=query_THQ.device)
    if T == 0:
        return scores_THK, ids_THK
    chosen = tuned.settings("retrieve_kernel", query_THQ, T)
    tile = launch.selection(S, Q, topk, query_THQ.element_size(), chosen)
    with launch.on_device(query_THQ):
        retrieve_kernel[(triton.cdiv(T, tile["QUERIES"]) * H,)](
            query_THQ,
            sub_keys,
            scores_THK,
            ids_THK,
            T,
            H=H,
            S=S,
            Q=Q,
            PER_HEAD=sub_keys.dim() == 4,
            NONLINEARITY=scores,
            K=topk,
            # Triton's interpreter multiplies bfloat16 operands as integers.
            WIDEN=not isinstance(retrieve_kernel, triton.JITFunction),
            **tile,
        )
    return scores_THK, ids_THK
