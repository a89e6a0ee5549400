"""Which implementation `impl` means, and why: the small table behind "auto" and `peer.explain`."""

import csv
import functools
import importlib.util
import math
import os
from collections import Counter
from pathlib import Path

import torch

IMPLEMENTATIONS = ("auto", "reference", "compiled", "aten", "native", "triton")
NATIVE_DTYPES = (torch.float32, torch.float64)
INSTALLED = frozenset(name for name in ("numba", "triton") if importlib.util.find_spec(name))
TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def resolve(impl: str, device: torch.device, dtype: torch.dtype, pairs: int | None = None) -> str:
    """The implementation that `impl` means for these tensors; raises ValueError for one that cannot
    run.

    "auto" is "triton" on a GPU with triton installed and a dtype its kernels take; on a CPU with
    numba installed and a dtype its kernels take, what was faster at the measured size nearest to
    `pairs`; otherwise "aten".
    """
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl must be one of {', '.join(IMPLEMENTATIONS)}; got {impl!r}")
    if impl == "auto":
        if device.type == "cuda" and triton_installed() and dtype in TRITON_DTYPES:
            return "triton"
        if device.type == "cpu" and numba_installed() and dtype in NATIVE_DTYPES:
            return fastest_of_all() if torch.compiler.is_compiling() else fastest(pairs)
        return "aten"
    if impl == "triton":
        check_triton(device, dtype, pairs)
    if impl == "native":
        check_native(device, dtype)
    return impl


@functools.lru_cache(maxsize=1024)  # asked at every call, whose least is 90 µs
def fastest(pairs: int | None) -> str:
    """The least time of a step, summed over the sizes measured nearest to `pairs`, or over all."""
    rows = measured()
    if pairs is not None:
        distances = [abs(math.log(int(row["pairs"]) / max(pairs, 1))) for row in rows]
        rows = [row for row, far in zip(rows, distances, strict=True) if far == min(distances)]
    times: Counter[str] = Counter()
    for row in rows:
        times.update({name: float(row[f"{name}_ms"]) for name in ("aten", "native")})
    return min(times, key=lambda name: times[name])


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch's
def fastest_of_all() -> str:
    """For a graph that serves any number of pairs, whose tracer may not read files."""
    return fastest(None)


@functools.cache
def measured() -> list[dict[str, str]]:
    """Forward and backward of a layer on a CPU; its comments say where and how."""
    lines = Path(__file__).with_name("measured.csv").read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def check_native(device: torch.device, dtype: torch.dtype) -> None:
    if not numba_installed():
        raise ValueError(
            "impl='native' needs the package numba: pip install numba, or use impl='aten'"
        )
    if device.type not in ("cpu", "meta"):
        raise ValueError(f"impl='native' runs on a CPU; got tensors on {device}; use impl='auto'")
    if dtype not in NATIVE_DTYPES:
        raise ValueError(f"impl='native' takes float32 or float64; got {dtype}; use impl='aten'")


def check_triton(device: torch.device, dtype: torch.dtype, pairs: int | None) -> None:
    if not triton_installed():
        raise ValueError(
            "impl='triton' needs the package triton: pip install triton, or use impl='aten'"
        )
    if device.type not in ("cuda", "meta") and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            "impl='triton' runs on a GPU, or anywhere with TRITON_INTERPRET=1; "
            f"got tensors on {device}; use impl='aten'"
        )
    if dtype not in TRITON_DTYPES:
        raise ValueError(
            f"impl='triton' takes float32, bfloat16 or float16; got {dtype}; use impl='aten'"
        )
    if pairs is not None and pairs >= 2**31:
        raise ValueError(f"impl='triton' takes fewer than 2³¹ (token, expert) pairs; got {pairs}")


def numba_installed() -> bool:
    return "numba" in INSTALLED


def triton_installed() -> bool:
    return "triton" in INSTALLED
