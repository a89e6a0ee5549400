"""What every operator asks first: the engine that runs its parts, and whether ids are in range."""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from peer import aten

P = ParamSpec("P")
R = TypeVar("R")


def engine(impl: str) -> ModuleType:
    if impl == "triton":
        from peer import kernels

        return kernels
    if impl == "native":
        from peer import native

        return native
    return aten


def without_autocast(
    function: Callable[Concatenate[Tensor, P], R],
) -> Callable[Concatenate[Tensor, P], R]:
    @functools.wraps(function)
    def wrapped(first: Tensor, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with torch.autocast(first.device.type, enabled=False):
            return function(first, *args, **kwargs)

    return wrapped


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def check_ids(ids: Tensor, N: int) -> None:
    """ValueError on the CPU; a device-side assertion on a GPU, which does not wait for the
    device.
    """
    if ids.numel() == 0:
        return
    if ids.is_cpu:
        low, high = (int(bound) for bound in ids.aminmax())
        if low < 0 or high >= N:
            raise ValueError(f"ids must be in [0, {N}); got ids from {low} to {high}")
    else:
        torch._assert_async(((ids >= 0) & (ids < N)).all(), f"peer: ids must be in [0, {N})")
