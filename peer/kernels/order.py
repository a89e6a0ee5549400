"""The pairs in expert order: what the kernels of backward walk."""

import torch
from torch import Tensor


def route(ids: Tensor, N: int) -> tuple[Tensor, Tensor]:
    """The pairs' order by expert, tokens ascending within one, and the expert of each, (T·P,) int32."""
    flat = ids.flatten()
    if N <= 1 << 15:
        flat = flat.short()  # half the radix passes
    experts, order = flat.sort(stable=True)
    return order.int(), experts.int()


def touched(experts: Tensor) -> Tensor:
    """The experts with at least one pair, ascending, int64."""
    return torch.unique_consecutive(experts).long()
