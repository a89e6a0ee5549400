"""`experts`: single-neuron experts, weighted and summed, and every gradient of that."""

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from peer.activations import activate, activation_gradient
from peer.namespace import NAMESPACE
from peer.operators.engine import check_ids, engine, wide, without_autocast
from peer.operators.routing import route, table_result, touched
from peer.reference import ACTIVATIONS

# Engines that take up·dy and the gradients of all tables in one visit of an expert.
ONE_VISIT = ("native", "triton")


@custom_op(f"{NAMESPACE}::experts", mutates_args=())
@without_autocast
def experts(
    x: Tensor,
    ids: Tensor,
    scores: Tensor,
    down: Tensor,
    up: Tensor,
    gate: Tensor | None,
    order: Tensor | None,
    bounds: Tensor | None,
    activation: str,
    table_grad: str,
    check: bool,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns y (T, D), the pre-activations down·x (T, P) and gate·x (T, P), the last empty without
    a gate.
    """
    if check:
        check_ids(ids, down.shape[0])
    parts = engine(impl)
    if impl == "triton":
        return parts.fused_experts(x, ids, scores, down, up, gate, activation)
    hidden = parts.gathered_dot(x, down, ids, order)
    gates = hidden.new_empty(0) if gate is None else parts.gathered_dot(x, gate, ids, order)
    weights = scores * activate(hidden, gates, activation)
    return parts.weighted_sum(weights, up, ids), hidden, gates


@experts.register_fake
def _(
    x: Tensor,
    ids: Tensor,
    scores: Tensor,
    down: Tensor,
    up: Tensor,
    gate: Tensor | None,
    order: Tensor | None,
    bounds: Tensor | None,
    activation: str,
    table_grad: str,
    check: bool,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    hidden = x.new_empty(ids.shape, dtype=wide(x.dtype))
    return (
        torch.empty_like(x, memory_format=torch.contiguous_format),
        hidden,
        (hidden.new_empty(0) if gate is None else torch.empty_like(hidden)),
    )


@custom_op(f"{NAMESPACE}::experts_backward", mutates_args=())
@without_autocast
def experts_backward(
    grad_y: Tensor,
    x: Tensor,
    ids: Tensor,
    scores: Tensor,
    down: Tensor,
    up: Tensor,
    gate: Tensor | None,
    order: Tensor | None,
    bounds: Tensor | None,
    touched: Tensor | None,
    hidden: Tensor,
    gates: Tensor,
    activation: str,
    impl: str,
    need_x: bool,
    need_scores: bool,
    need_tables: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """With a_p = up_p·dy: dscore = a·e, dh = score·a·e'(h), dx = Σ dh·down, d down = Σ dh·x, d up =
    Σ score·e·dy.

    e is the expert's activation. Gradients come back for x, scores, down, up and gate, empty where
    not needed; the tables' have N rows, or one per expert in `touched`.
    """
    parts = engine(impl)
    dx, dscores, ddown, dup, dgate = (x.new_empty(0) for _ in range(5))
    in_one_visit = need_tables and impl in ONE_VISIT
    if in_one_visit:
        found, dhidden, dgates, tables = parts.experts_gradients(
            grad_y, x, scores, up, gate, order, bounds, touched, hidden, gates, activation
        )
        dup, ddown, *gated = tables
        dgate = gated[0] if gated else dgate
    else:
        found, dhidden, dgates, weights = pair_gradients(
            impl, grad_y, ids, scores, up, order, bounds, hidden, gates, activation
        )
    if need_scores:
        dscores = found.to(scores.dtype)
    if need_x:
        dx = token_gradient(impl, ids, dhidden, down, dgates, gate)
    if need_tables and not in_one_visit:
        ddown = parts.table_gradient(dhidden, x, order, bounds, touched)
        dup = parts.table_gradient(weights, grad_y, order, bounds, touched)
        if gate is not None:
            dgate = parts.table_gradient(dgates, x, order, bounds, touched)
    return dx, dscores, ddown, dup, dgate


def pair_gradients(
    impl: str,
    grad_y: Tensor,
    ids: Tensor,
    scores: Tensor,
    up: Tensor,
    order: Tensor | None,
    bounds: Tensor | None,
    hidden: Tensor,
    gates: Tensor,
    activation: str,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Of each pair (T, P): dscore, dh, dgate (None without a gate), and the weight of its up row."""
    parts = engine(impl)
    if impl == "triton":
        return parts.pair_gradients(grad_y, scores, up, order, bounds, hidden, gates, activation)
    active = activate(hidden, gates, activation)
    a = parts.gathered_dot(grad_y, up, ids, order)
    weighted = scores * a
    if gates.dim() == 1:
        dhidden, dgates = activation_gradient(weighted, hidden, activation), None
    else:
        dhidden = weighted * ACTIVATIONS[activation](gates)
        dgates = activation_gradient(weighted * hidden, gates, activation)
    return a * active, dhidden, dgates, scores * active


def token_gradient(
    impl: str,
    ids: Tensor,
    dhidden: Tensor,
    down: Tensor,
    dgates: Tensor | None,
    gate: Tensor | None,
) -> Tensor:
    parts = engine(impl)
    if impl == "triton":
        return parts.weighted_sum(dhidden, down, ids, None if gate is None else (dgates, gate))
    dx = parts.weighted_sum(dhidden, down, ids)
    return dx if gate is None else dx + parts.weighted_sum(dgates, gate, ids)


@experts_backward.register_fake
def _(
    grad_y: Tensor,
    x: Tensor,
    ids: Tensor,
    scores: Tensor,
    down: Tensor,
    up: Tensor,
    gate: Tensor | None,
    order: Tensor | None,
    bounds: Tensor | None,
    touched: Tensor | None,
    hidden: Tensor,
    gates: Tensor,
    activation: str,
    impl: str,
    need_x: bool,
    need_scores: bool,
    need_tables: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    rows = down.shape[0] if touched is None else touched.shape[0]
    table = (rows, down.shape[1]) if need_tables else (0,)
    return (
        x.new_empty(x.shape if need_x else (0,)),
        scores.new_empty(scores.shape if need_scores else (0,)),
        down.new_empty(table),
        down.new_empty(table),
        down.new_empty((0,) if gate is None else table),
    )


def experts_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.activation, ctx.table_grad, _, ctx.impl = inputs
    _, hidden, gates = output
    ctx.mark_non_differentiable(hidden, gates)
    ctx.save_for_backward(*tensors, hidden, gates)


def experts_gradients(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    x, ids, scores, down, up, gate, order, bounds, hidden, gates = ctx.saved_tensors
    need_x, need_scores = ctx.needs_input_grad[0], ctx.needs_input_grad[2]
    need_tables = any(ctx.needs_input_grad[3:6])
    if order is None and (need_tables or ctx.impl == "triton"):
        order, bounds = route(ids, down.shape[0], False, ctx.impl)
    rows = None
    if need_tables and ctx.table_grad == "sparse":
        rows = touched(bounds, ctx.impl)
    dx, dscores, *dtables = experts_backward(
        grad_y.contiguous(),
        x,
        ids,
        scores,
        down,
        up,
        gate,
        order,
        bounds,
        rows,
        hidden,
        gates,
        ctx.activation,
        ctx.impl,
        need_x,
        need_scores,
        need_tables,
    )
    ddown, dup, dgate = (
        table_result(values, rows, down.shape) if needed else None
        for values, needed in zip(dtables, ctx.needs_input_grad[3:6], strict=True)
    )
    return (
        dx if need_x else None,
        None,
        dscores if need_scores else None,
        ddown,
        dup,
        dgate,
        *(None,) * 6,
    )


experts.register_autograd(experts_gradients, setup_context=experts_context)
