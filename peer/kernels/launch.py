"""How each kernel is launched: tile sizes, unrolling and warps, and nothing else.

A launcher passes what its function here returns, so what is compiled ahead of time and counted is
what a GPU runs. Widths and pairs per token are compile-time constants of every kernel: row
addresses are then known to be aligned as far as D allows, whole rows need no mask, and no
specialisation of an integer argument decides which binary runs.

Chosen from instructions and registers counted in that binary, not measured (see LOG.md). What a GPU
measured stands in `peer.kernels.tuned` and goes before: it is `chosen`, where a function takes it.
"""

import contextlib
import math

import torch
import triton
from torch import Tensor

COLUMNS_PER_WARP = 1024  # 32 float32 registers a thread for each row that a program holds
PROGRAMS_WANTED = 2112  # 16 one-warp programs on each multiprocessor of a large GPU


Chosen = dict[str, int]
COUNTED: Chosen = {}


def columns(D: int) -> int:
    """Of a tile that holds a whole row."""
    return triton.next_power_of_2(D)


def row_of(D: int) -> dict[str, int]:
    """A whole row in one program: one warp up to 1,024 columns, so that no sum crosses warps."""
    return {"COLUMNS": columns(D), "num_warps": max(1, min(8, columns(D) // COLUMNS_PER_WARP))}


def fused(D: int, P: int, chosen: Chosen = COUNTED) -> dict[str, int]:
    """UNROLL pairs per iteration, whose rows are in flight together; it divides P: no pair is masked."""
    tile = row_of(D) | {"UNROLL": 4} | chosen
    return tile | {"UNROLL": math.gcd(P, tile["UNROLL"])}


def sums(D: int, P: int, chosen: Chosen = COUNTED) -> dict[str, int]:
    tile = row_of(D) | {"UNROLL": 8} | chosen
    return tile | {"UNROLL": math.gcd(P, tile["UNROLL"])}


def shares(T: int, P: int, unroll: int) -> tuple[int, int]:
    """Pairs per program and programs per token: enough to fill a GPU, each with whole iterations."""
    programs = min(triton.cdiv(PROGRAMS_WANTED, T), P // unroll)
    share = triton.cdiv(P // unroll, programs) * unroll
    return share, triton.cdiv(P, share)


def runs(D: int, item_bytes: int, chosen: Chosen = COUNTED) -> dict[str, int]:
    """As many pairs at a time as leave a thread 96 registers for the rows of dy, x and up in flight."""
    row = row_of(D)
    registers = max(1, 3 * row["COLUMNS"] * item_bytes // (128 * row["num_warps"]))
    return row | {"UNROLL": 4 if registers <= 24 else 2 if registers <= 48 else 1} | chosen


def combine(D: int) -> dict[str, int]:
    """Twice the warps of `row_of`: it adds rows and makes no dot."""
    warps = max(1, min(8, 2 * columns(D) // COLUMNS_PER_WARP))
    return {"COLUMNS": columns(D), "num_warps": warps}


def piece(pairs: int) -> int:
    """Sorted pairs of one program: 8,192 programs, a few rounds of a large GPU, or 32 pairs each."""
    return max(32, triton.cdiv(pairs, 8192))


def selection(S: int, Q: int, K: int, item_bytes: int, chosen: Chosen = COUNTED) -> dict[str, int]:
    """16 queries, the least a matrix product takes, against all sub-keys at once, 1,024 at most: their
    scores take 128 registers of a thread.
    """
    slots = max(32, 2 * triton.next_power_of_2(K))
    width = max(16, triton.next_power_of_2(Q))
    stairs = sum(K // (a + 1) for a in range(K))
    return {
        "QUERIES": 16,
        "SLOTS": slots,
        "STAIRS": triton.cdiv(stairs, slots) * slots,
        "CHUNKS": max(1, min(1024, triton.next_power_of_2(S)) // (4 * slots)),
        "WIDTH": width,
        "STEP": min(width, 64 if item_bytes < 4 else 16),  # float32 products have no matrix unit
        "num_warps": 8,
        **chosen,
    }


def matches(Q: int, K: int) -> dict[str, int]:
    """The K sub-keys of a half as one tile: 32 elements a thread for 16 of 64 columns."""
    slots, width = triton.next_power_of_2(K), columns(Q)
    return {
        "SLOTS": slots,
        "COLUMNS": width,
        "num_warps": max(1, min(8, slots * width // 1024)),
    }


def on_device(like: Tensor):
    return torch.cuda.device(like.device) if like.is_cuda else contextlib.nullcontext()
