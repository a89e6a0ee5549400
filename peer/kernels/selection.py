"""The K best of S² product keys per query, without the scores of the sub-keys ever reaching memory.

One program owns QUERIES tokens of one head. For each half of the query it walks the sub-keys in
tiles of KEYS: a matrix product gives a tile of float32 scores, and while its largest beats the
smallest of the running K best it takes that one's place. The first tile fills the list; a later
tile j changes it about K/j times.

Selection works on one 64-bit integer per candidate: the upper half is the score's bits made
monotone (a negative float's lower 31 bits are inverted), the lower half the complement of its name.
The largest integer is then the largest score and, among equal scores, the lowest name; integers
have no NaN, so a NaN score can spoil neither its neighbours nor the validity of an id. −0 is turned
into +0 first, as they are equal.

Merge: with both halves sorted, the pair (a, b) is no larger than the (a+1)(b+1) − 1 pairs up and
left of it, so only pairs with (a+1)(b+1) ≤ K can be among the K best: 50 instead of 256 for K = 16.
Their places come from a small table; the same integers, now named by expert id, pick the result.
Where rounding makes the sums of different halves equal, ids are compared within the staircase.
"""

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from peer.kernels.launch import on_device

NOTHING = tl.constexpr(-(2**63))
FULL = tl.constexpr(2**63 - 1)


@triton.jit
def ranked(score, name):
    """A 64-bit integer that sorts by score, then by the lowest name."""
    bits = tl.where(score == 0.0, 0.0, score).to(tl.int32, bitcast=True)
    monotone = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (monotone.to(tl.int64) << 32) | (0x7FFFFFFF - name).to(tl.int64)


@triton.jit
def score_of(key):
    monotone = (key >> 32).to(tl.int32)
    return (monotone ^ ((monotone >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def name_of(key):
    return 0x7FFFFFFF - (key & 0x7FFFFFFF).to(tl.int32)


@triton.jit
def descending(keys, K: tl.constexpr, BEST: tl.constexpr, QUERIES: tl.constexpr):
    """The K largest of each row of distinct integers, in order, in the first K of BEST places."""
    rank = tl.arange(0, BEST)[None, :]
    result = tl.full((QUERIES, BEST), NOTHING, tl.int64)
    for i in range(K):
        largest = tl.max(keys, axis=1)[:, None]
        result = tl.where(rank == i, largest, result)
        keys = tl.where(keys == largest, NOTHING, keys)
    return result


@triton.jit
def best_of_half(
    query_ptr,
    keys_ptr,
    token,
    valid,
    query_stride,
    S,
    Q,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    K: tl.constexpr,
    BEST: tl.constexpr,
    WIDTH: tl.constexpr,
    STEP: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The K largest matches of each query with the S sub-keys, sorted, as `ranked` integers."""
    slot = tl.arange(0, BEST).to(tl.int64)
    best = tl.where(slot < K, NOTHING + slot, FULL)[None, :] + tl.zeros((QUERIES, 1), tl.int64)
    for start in range(0, S, KEYS):
        name = start + tl.arange(0, KEYS)
        score = tl.zeros((QUERIES, KEYS), tl.float32)
        for left in range(0, WIDTH, STEP):
            column = left + tl.arange(0, STEP)
            query = tl.load(
                query_ptr + token[:, None] * query_stride + column[None, :],
                mask=valid[:, None] & (column < Q)[None, :],
                other=0.0,
            )
            key = tl.load(
                keys_ptr + name[None, :] * Q + column[:, None],
                mask=(name < S)[None, :] & (column < Q)[:, None],
                other=0.0,
            )
            if WIDEN:
                query, key = query.to(tl.float32), key.to(tl.float32)
            score = tl.dot(query, key, score, input_precision="ieee")
        fresh = tl.where((name < S)[None, :], ranked(score, name[None, :]), NOTHING)
        largest = tl.max(fresh, axis=1)
        smallest = tl.min(best, axis=1)
        while tl.max((largest > smallest).to(tl.int32), axis=0) > 0:
            better = (largest > smallest)[:, None] & (best == smallest[:, None])
            best = tl.where(better, largest[:, None], best)
            fresh = tl.where(fresh == largest[:, None], NOTHING, fresh)
            largest = tl.max(fresh, axis=1)
            smallest = tl.min(best, axis=1)
    return descending(tl.where((slot < K)[None, :], best, NOTHING), K, BEST, QUERIES)


@triton.jit
def retrieve_kernel(
    query_ptr,
    keys_ptr,
    stairs_ptr,
    scores_ptr,
    ids_ptr,
    T,
    H,
    S,
    Q,
    half_stride,
    head_stride,
    NONLINEARITY: tl.constexpr,
    K: tl.constexpr,
    BEST: tl.constexpr,
    STAIRS: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    WIDTH: tl.constexpr,
    STEP: tl.constexpr,
    WIDEN: tl.constexpr,
):
    head = tl.program_id(0) % H
    token = (tl.program_id(0) // H).to(tl.int64) * QUERIES + tl.arange(0, QUERIES)
    valid = token < T
    query_ptr += head * 2 * Q
    keys_ptr += head * head_stride
    stride = H * 2 * Q
    first = best_of_half(
        query_ptr, keys_ptr, token, valid, stride, S, Q, QUERIES, KEYS, K, BEST, WIDTH, STEP, WIDEN
    )
    second = best_of_half(
        query_ptr + Q,
        keys_ptr + half_stride,
        token,
        valid,
        stride,
        S,
        Q,
        QUERIES,
        KEYS,
        K,
        BEST,
        WIDTH,
        STEP,
        WIDEN,
    )
    place = tl.arange(0, STAIRS)
    a = tl.load(stairs_ptr + place)
    b = tl.load(stairs_ptr + STAIRS + place)
    row = tl.gather(first, tl.broadcast_to(tl.maximum(a, 0)[None, :], (QUERIES, STAIRS)), 1)
    column = tl.gather(second, tl.broadcast_to(b[None, :], (QUERIES, STAIRS)), 1)
    expert = name_of(row) * S + name_of(column)
    pairs = ranked(score_of(row) + score_of(column), expert)
    best = descending(tl.where((a >= 0)[None, :], pairs, NOTHING), K, BEST, QUERIES)

    rank = tl.arange(0, BEST)[None, :]
    score = score_of(best)
    if NONLINEARITY == "softmax":
        top = score_of(tl.max(best, axis=1))
        weight = tl.where(rank < K, tl.exp(score - top[:, None]), 0.0)
        score = weight / tl.sum(weight, axis=1)[:, None]
    elif NONLINEARITY == "sigmoid":
        score = 1.0 / (1.0 + tl.exp(-score))
    elif NONLINEARITY == "relu":
        score = tl.where(score < 0.0, 0.0, score)
    address = (token[:, None] * H + head) * K + rank
    mask = valid[:, None] & (rank < K)
    tl.store(scores_ptr + address, score, mask=mask)
    tl.store(ids_ptr + address, name_of(best), mask=mask)


@functools.cache
def stairs(topk: int, device: torch.device) -> Tensor:
    """The places (a, b) with (a+1)(b+1) ≤ topk, padded with a = −1 to a power of two."""
    places = [(a, b) for a in range(topk) for b in range(topk // (a + 1))]
    size = max(2, triton.next_power_of_2(len(places)))
    places += [(-1, 0)] * (size - len(places))
    return torch.tensor(places, dtype=torch.int32, device=device).t().contiguous()


def tile(topk: int, Q: int) -> dict[str, int]:
    """The kernel's constants: 16 queries against 64 sub-keys, 64 of their columns at a time."""
    width = max(16, triton.next_power_of_2(Q))
    places = sum(topk // (a + 1) for a in range(topk))
    return {
        "K": topk,
        "BEST": max(2, triton.next_power_of_2(topk)),
        "STAIRS": max(2, triton.next_power_of_2(places)),
        "QUERIES": 16,
        "KEYS": 64,
        "WIDTH": width,
        "STEP": min(width, 64),
        # Triton's interpreter multiplies bfloat16 operands as integers.
        "WIDEN": not isinstance(retrieve_kernel, triton.JITFunction),
    }


def warps(topk: int, item_bytes: int) -> int:
    """4; with 32 experts a head in two-byte storage 8, where 4 spill 16 bytes and in fp32 8 do."""
    return 8 if topk > 16 and item_bytes < 4 else 4


def retrieve(query_THQ: Tensor, sub_keys: Tensor, topk: int, scores: str) -> tuple[Tensor, Tensor]:
    """Scores (T, H, K) float32 and ids (T, H, K) int32, best first."""
    (T, H, _), (S, Q) = query_THQ.shape, sub_keys.shape[-2:]
    query_THQ, sub_keys = query_THQ.contiguous(), sub_keys.contiguous()
    places = stairs(topk, query_THQ.device)
    scores_THK = torch.empty(T, H, topk, dtype=torch.float32, device=query_THQ.device)
    ids_THK = torch.empty(T, H, topk, dtype=torch.int32, device=query_THQ.device)
    if T == 0:
        return scores_THK, ids_THK
    constants = tile(topk, Q)
    with on_device(query_THQ):
        retrieve_kernel[(triton.cdiv(T, constants["QUERIES"]) * H,)](
            query_THQ,
            sub_keys,
            places,
            scores_THK,
            ids_THK,
            T,
            H,
            S,
            Q,
            sub_keys.stride(0),
            sub_keys.stride(1) if sub_keys.dim() == 4 else 0,
            NONLINEARITY=scores,
            num_warps=warps(topk, query_THQ.element_size()),
            **constants,
        )
    return scores_THK, ids_THK
