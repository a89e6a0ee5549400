"""Which implementation `impl` means, and why: the small table behind "auto" and `peer.explain`."""

import functools
import importlib.util
import os

import torch

IMPLEMENTATIONS = ("auto", "reference", "compiled", "aten", "native", "triton")
NATIVE_DTYPES = (torch.float32, torch.float64)
TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def resolve(impl: str, device: torch.device, dtype: torch.dtype, pairs: int | None = None) -> str:
    """The implementation that `impl` means for these tensors; raises ValueError for one that cannot
    run.

    "auto" is "triton" on a GPU with triton installed and a dtype its kernels take, otherwise
    "aten".
    """
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl must be one of {', '.join(IMPLEMENTATIONS)}; got {impl!r}")
    if impl == "auto":
        runs = device.type == "cuda" and triton_installed() and dtype in TRITON_DTYPES
        return "triton" if runs else "aten"
    if impl == "triton":
        check_triton(device, dtype, pairs)
    if impl == "native":
        check_native(device, dtype)
    return impl


def check_native(device: torch.device, dtype: torch.dtype) -> None:
    if not numba_installed():
        raise ValueError("impl='native' needs the package numba; install it, or use impl='aten'")
    if device.type not in ("cpu", "meta"):
        raise ValueError(f"impl='native' runs on a CPU; got tensors on {device}; use impl='auto'")
    if dtype not in NATIVE_DTYPES:
        raise ValueError(f"impl='native' takes float32 or float64; got {dtype}; use impl='aten'")


def check_triton(device: torch.device, dtype: torch.dtype, pairs: int | None) -> None:
    if not triton_installed():
        raise ValueError("impl='triton' needs the package triton; install it, or use impl='aten'")
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


@functools.cache
def numba_installed() -> bool:
    return importlib.util.find_spec("numba") is not None


@functools.cache
def triton_installed() -> bool:
    return importlib.util.find_spec("triton") is not None
