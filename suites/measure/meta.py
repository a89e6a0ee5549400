"""Modules without memory: a layer with a million experts on the meta device, where only shapes exist."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


def on_meta(build: Callable[..., Any], *arguments: Any) -> Any:
    """What `build` makes, with parameters that have a shape, no storage and no initial values."""
    with torch.device("meta"), patch.object(nn.init, "normal_", lambda tensor, **_: tensor):
        return build(*arguments)


class MetaShapes(TorchDispatchMode):
    """Result shapes of the operators for which torch has no meta kernel, or one for bfloat16 alone."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in SHAPES and args[0].device.type == "meta":
            return SHAPES[function](*args, **kwargs)
        return function(*args, **kwargs)


def bincount(ids: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """Every id is below `minlength` wherever the layers count."""
    return ids.new_empty(minlength, dtype=torch.int64)


def grouped_mm(left: Tensor, right: Tensor, offs: Tensor, *_: Any) -> Tensor:
    """(M, K) rows in groups by (E, K, N) → (M, N); (M, K) by (K, N), K in groups → (E, M, N)."""
    shape = (left.shape[0], right.shape[-1])
    return left.new_empty(shape if right.dim() == 3 else (offs.shape[0], *shape))


SHAPES: dict[Any, Callable[..., Tensor]] = {
    aten.bincount.default: bincount,
    aten._grouped_mm.default: grouped_mm,
}
