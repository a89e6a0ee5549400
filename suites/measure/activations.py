"""Bytes that autograd really keeps between forward and backward, on the meta device.

Unit: bytes of distinct storages, parameters and buffers left out, the input's own included. An
implementation keeps no less than the closed form and often more; a kernel's scratch space is not seen.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from suites.measure.meta import MetaShapes


def saved_bytes(
    module: nn.Module, x: Tensor, call: Callable[[Any, Tensor], Any] = nn.Module.__call__
) -> int:
    """Bytes saved for backward by one `call` of `module` on the meta input `x`."""
    own = {t.untyped_storage()._cdata for t in (*module.parameters(), *module.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    x = x.detach().requires_grad_(x.is_floating_point())
    with MetaShapes(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        call(module, x)
    return sum(storage.nbytes() for storage in kept.values())
