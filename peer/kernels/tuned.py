"""What a GPU measured: warps and rows in flight by kernel, width and tokens.

`tuned.csv` holds them, and `python -m suites tune` writes it on a GPU. A GPU without rows there, and
rows of other than two bytes a number, take what `peer.kernels.launch` counted.
"""

import contextlib
import csv
import functools
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from peer.kernels import launch

TABLE = Path(__file__).with_name("tuned.csv")
KNOBS = ("num_warps", "UNROLL")
MEASURED_BYTES = 2  # of a number: bfloat16
# kernel → what is tried at the moment, whatever is measured
tried: dict[str, dict[str, int]] = {}


@contextlib.contextmanager
def trying(kernel: str, settings: dict[str, int]) -> Iterator[None]:
    """Launches of `kernel` take these settings."""
    tried[kernel] = settings
    try:
        yield
    finally:
        del tried[kernel]


def settings(kernel: str, like: Tensor, tokens: int) -> dict[str, int]:
    """What `kernel` is launched with for rows of `like`; empty where the counted defaults serve."""
    if kernel in tried:
        return tried[kernel]
    if not like.is_cuda or like.element_size() != MEASURED_BYTES:
        return {}
    return nearest(kernel, launch.columns(like.shape[-1]), tokens, name_of(like.device))


@functools.lru_cache(maxsize=1024)  # asked at every launch
def nearest(kernel: str, columns: int, tokens: int, gpu: str) -> dict[str, int]:
    """Those of the same width, measured at the number of tokens nearest to `tokens`."""
    rows = [
        row for row in rows_of(gpu) if (row["kernel"], row["columns"]) == (kernel, str(columns))
    ]
    if not rows:
        return {}
    row = min(rows, key=lambda row: abs(math.log(int(row["tokens"]) / max(tokens, 1))))
    return {knob: int(row[knob]) for knob in KNOBS if row[knob]}


def rows_of(gpu: str) -> list[dict[str, str]]:
    return [row for row in table() if row["gpu"] == gpu]


@functools.cache
def table() -> list[dict[str, str]]:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


@functools.cache
def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device)
