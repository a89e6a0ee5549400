"""Tile sizes shared by the kernels. Chosen from counted registers and bytes in flight, not yet
measured.
"""

import contextlib

import torch
import triton
from torch import Tensor

TILE = 4096  # elements of a gathered tile; two in fp32 are 64 registers a thread at 4 warps


def column_block(D: int, limit: int) -> int:
    return min(triton.next_power_of_2(D), limit)


def rows_at_once(columns: int, most: int = 16) -> int:
    """Rows gathered together: `most` at short rows, fewer where a row alone is long."""
    return max(1, min(most, TILE // columns))


def warps(elements: int) -> int:
    """Warps of a program whose largest tile has this many elements: 32 a thread, 1 to 8."""
    return max(1, min(8, elements // 1024))


def on_device(like: Tensor):
    return torch.cuda.device(like.device) if like.is_cuda else contextlib.nullcontext()
