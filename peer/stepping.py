"""`experts` and `bag` whose tables take their optimizer's step inside backward.

A gradient row is summed and used while it is in registers or in cache: no table gradient is stored.
All gradients that read a table are taken before it changes.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from peer import operators
from peer.optim import RowOptimizer, local


def steps_in_backward(table_grad: str | RowOptimizer, **tables: Tensor) -> bool:
    """Whether this call's backward ends in a step on `tables`; raises ValueError where it cannot."""
    trained = {name: table for name, table in tables.items() if table.requires_grad}
    if isinstance(table_grad, str) or not (trained and torch.is_grad_enabled()):
        return False
    table_grad.check_holds(**trained)
    return True


class ExpertsAndStep(torch.autograd.Function):
    """Arguments of `operators.experts`, with the optimizer in the place of `table_grad`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        ids: Tensor,
        scores: Tensor,
        down: Tensor,
        up: Tensor,
        gate: Tensor | None,
        order: Tensor | None,
        bounds: Tensor | None,
        activation: str,
        optimizer: RowOptimizer,
        check: bool,
        impl: str,
    ) -> Tensor:
        parts = (None if table is None else local(table) for table in (down, up, gate))
        tensors = (x, ids, scores, *parts, order, bounds)
        y, hidden, gates = operators.experts(*tensors, activation, "dense", check, impl)
        ctx.save_for_backward(*tensors, hidden, gates)
        ctx.tables = down, up, gate  # activation checkpointing saves other objects in their place
        ctx.activation, ctx.optimizer, ctx.impl = activation, optimizer, impl
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, ids, scores, down, up, gate, order, bounds, hidden, gates = ctx.saved_tensors
        need_x, _, need_scores, *need_tables = ctx.needs_input_grad[:6]
        parts, grad_y = operators.engine(ctx.impl), grad_y.contiguous()
        if order is None:
            order, bounds = operators.route(ids, up.shape[0], False, ctx.impl)
        with torch.autocast(x.device.type, enabled=False):
            found, dhidden, dgates, weights = operators.pair_gradients(
                ctx.impl, grad_y, ids, scores, up, order, bounds, hidden, gates, ctx.activation
            )
            dx = None
            if need_x:
                dx = operators.token_gradient(ctx.impl, ids, dhidden, down, dgates, gate)
            sums = (dhidden, x), (weights, grad_y), (dgates, x)
            for needed, table, (pairs_TP, rows_TD) in zip(
                need_tables, ctx.tables, sums, strict=True
            ):
                if needed:
                    step = ctx.optimizer.step_in_backward(table)
                    parts.update_rows(local(table), pairs_TP, rows_TD, order, bounds, step)
        dscores = found.to(scores.dtype) if need_scores else None
        return dx, None, dscores, *(None,) * 9


class BagAndStep(torch.autograd.Function):
    """Arguments of `operators.bag`, with the optimizer in the place of `table_grad`."""

    @staticmethod
    def forward(
        ctx: Any,
        ids: Tensor,
        scores: Tensor,
        table: Tensor,
        order: Tensor | None,
        bounds: Tensor | None,
        optimizer: RowOptimizer,
        check: bool,
        impl: str,
    ) -> Tensor:
        part = local(table)
        ctx.save_for_backward(ids, scores, part, order, bounds)
        ctx.table, ctx.optimizer, ctx.impl = table, optimizer, impl
        return operators.bag(ids, scores, part, order, bounds, "dense", check, impl)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        ids, scores, table, order, bounds = ctx.saved_tensors
        parts, grad_y, dscores = operators.engine(ctx.impl), grad_y.contiguous(), None
        if order is None:
            order, bounds = operators.route(ids, table.shape[0], False, ctx.impl)
        with torch.autocast(table.device.type, enabled=False):
            if ctx.needs_input_grad[1]:
                dscores, _ = operators.bag_backward(
                    grad_y, ids, scores, table, order, bounds, None, ctx.impl, True, False
                )
            step = ctx.optimizer.step_in_backward(ctx.table)
            parts.update_rows(local(ctx.table), scores, grad_y, order, bounds, step)
        return None, dscores, *(None,) * 6
