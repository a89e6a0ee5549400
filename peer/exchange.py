"""What processes send each other for tables that are spread over them: collectives with gradients.

Shapes: R processes of one group hold T tokens each, as many in every one; A = R·T are the tokens of all,
in the order of ranks.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup

# torch 2.13 renamed them, and warns of the names that 2.11 knows.
all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor

Collective = Callable[[Tensor, ProcessGroup], Tensor]


def columns_of_all(x_TD: Tensor, group: ProcessGroup) -> Tensor:
    """(T, D), whole rows of this process's tokens → (A, D / R), this process's columns of all tokens."""
    return Exchange.apply(x_TD, to_columns, to_rows, group)


def rows_of_own(y_AC: Tensor, group: ProcessGroup) -> Tensor:
    """The way back: (A, D / R) → (T, D)."""
    return Exchange.apply(y_AC, to_rows, to_columns, group)


def gathered(x: Tensor, group: ProcessGroup) -> Tensor:
    """(T, …) of every process → (A, …)."""
    return Exchange.apply(x, gather, scatter_sum, group)


def sum_of_own(x: Tensor, group: ProcessGroup) -> Tensor:
    """(A, …) of every process → (T, …), their sum for this process's tokens."""
    return Exchange.apply(x, scatter_sum, gather, group)


def sum_of_all(x: Tensor, group: ProcessGroup) -> Tensor:
    """The sum over processes, the same in all."""
    return Exchange.apply(x, total, total, group)


class Exchange(torch.autograd.Function):
    """A collective whose gradient is that of its transpose."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, there: Collective, back: Collective, group: ProcessGroup
    ) -> Tensor:
        ctx.back, ctx.group = back, group
        return there(x, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.back(grad, ctx.group), None, None, None


def to_columns(x_TD: Tensor, group: ProcessGroup) -> Tensor:
    sent = x_TD.unflatten(1, (group.size(), -1)).transpose(0, 1).contiguous()
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent, group=group)
    return received.flatten(0, 1)


def to_rows(y_AC: Tensor, group: ProcessGroup) -> Tensor:
    sent = y_AC.contiguous().unflatten(0, (group.size(), -1))
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent, group=group)
    return received.transpose(0, 1).flatten(1)


def gather(x: Tensor, group: ProcessGroup) -> Tensor:
    whole = x.new_empty(group.size() * x.shape[0], *x.shape[1:])
    all_gather(whole, x.contiguous(), group=group)
    return whole


def scatter_sum(x: Tensor, group: ProcessGroup) -> Tensor:
    own = x.new_empty(x.shape[0] // group.size(), *x.shape[1:])
    reduce_scatter(own, x.contiguous(), group=group)
    return own


def total(x: Tensor, group: ProcessGroup) -> Tensor:
    whole = x.contiguous().clone()
    dist.all_reduce(whole, group=group)
    return whole
