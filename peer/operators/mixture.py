"""The operators behind `retrieve`, `experts` and `bag`: schema, fake, autograd; FLOPs are in
`peer.costs`.

Each is opaque to `torch.compile` and runs the parts of one engine, "aten" or "triton".
Pre-activations leave `experts` in float32 or wider, so that backward holds an id, a score and a
pre-activation per pair and never (T, P, D). `route` sorts the pairs by expert once for a forward
and its backward.

Data types: tables, tokens and their gradients keep the dtype given; scores leave `retrieve` in
float32 or wider. Autocast never reaches inside an operator: `peer.functional` casts tokens to the
tables' dtype, since casting N·D parameters per call would cost more than the call.
"""

import functools
from types import ModuleType

import torch
from torch import Tensor
from torch.library import custom_op

from peer import aten
from peer.choice import prefers_expert_order
from peer.reference import ACTIVATIONS


def engine(impl: str) -> ModuleType:
    if impl == "triton":
        from peer import kernels

        return kernels
    return aten


def without_autocast(function):
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        with torch.autocast(args[0].device.type, enabled=False):
            return function(*args, **kwargs)

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


@custom_op("peer::retrieve", mutates_args=())
@without_autocast
def retrieve(
    query: Tensor, sub_keys: Tensor, topk: int, scores: str, impl: str
) -> tuple[Tensor, Tensor]:
    return engine(impl).retrieve(query, sub_keys, topk, scores)


@retrieve.register_fake
def _(query, sub_keys, topk, scores, impl):
    shape = (*query.shape[:2], topk)
    return query.new_empty(shape, dtype=wide(query.dtype)), query.new_empty(
        shape, dtype=torch.int32
    )


@custom_op("peer::retrieve_backward", mutates_args=())
@without_autocast
def retrieve_backward(
    grad: Tensor,
    scores: Tensor,
    ids: Tensor,
    query: Tensor,
    sub_keys: Tensor,
    nonlinearity: str,
    impl: str,
    need_query: bool,
    need_keys: bool,
) -> tuple[Tensor, Tensor]:
    """A selected expert i·S + j sends its score's gradient to row i of one half and row j of the
    other.
    """
    T, H, K = ids.shape
    S, Q = sub_keys.shape[-2:]
    parts = engine(impl)
    keys_NQ = sub_keys.reshape(-1, Q)
    sets = keys_NQ.shape[0] // (2 * S)
    offset = torch.arange(2, device=ids.device, dtype=ids.dtype).view(1, 1, 2, 1) * (sets * S)
    if sets > 1:
        offset = offset + torch.arange(H, device=ids.device, dtype=ids.dtype).view(1, H, 1, 1) * S
    rows = torch.stack((ids // S, ids % S), 2) + offset
    rows_RK = rows.view(-1, K)
    weights_RK = score_gradient(grad, scores, nonlinearity).unsqueeze(2).expand(T, H, 2, K)
    weights_RK = weights_RK.reshape(-1, K)
    query_RQ = query.reshape(-1, Q)
    dquery, dkeys = query.new_empty(0), query.new_empty(0)
    if need_query:
        dquery = parts.weighted_sum(weights_RK, keys_NQ, rows_RK).view(query.shape)
    if need_keys:
        order, bounds = parts.route(rows_RK, keys_NQ.shape[0])
        dkeys = parts.table_gradient(weights_RK, query_RQ, order, bounds, None).view(sub_keys.shape)
    return dquery, dkeys


@retrieve_backward.register_fake
def _(grad, scores, ids, query, sub_keys, nonlinearity, impl, need_query, need_keys):
    dquery = query.new_empty(query.shape if need_query else (0,))
    return dquery, query.new_empty(sub_keys.shape if need_keys else (0,))


def score_gradient(grad: Tensor, scores: Tensor, nonlinearity: str) -> Tensor:
    """From the gradient of a score to that of the match under it; the score alone determines it."""
    if nonlinearity == "softmax":
        return scores * (grad - (grad * scores).sum(-1, keepdim=True))
    if nonlinearity == "sigmoid":
        return grad * scores * (1 - scores)
    return grad * (scores > 0)


def retrieve_context(ctx, inputs, output) -> None:
    query, sub_keys, _, ctx.nonlinearity, ctx.impl = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*output, query, sub_keys)


def retrieve_gradients(ctx, grad, _):
    needs = ctx.needs_input_grad[:2]
    dquery, dkeys = torch.ops.peer.retrieve_backward(
        grad.contiguous(), *ctx.saved_tensors, ctx.nonlinearity, ctx.impl, *needs
    )
    return dquery if needs[0] else None, dkeys if needs[1] else None, None, None, None


retrieve.register_autograd(retrieve_gradients, setup_context=retrieve_context)


@custom_op("peer::route", mutates_args=())
def route(ids: Tensor, experts: int, impl: str) -> tuple[Tensor, Tensor]:
    """The pairs' order by expert (T·P,), tokens ascending within one, and the runs' bounds (N+1,),
    int32.
    """
    check_ids(ids, experts)
    return engine(impl).route(ids, experts)


@route.register_fake
def _(ids, experts, impl):
    return (
        ids.new_empty(ids.numel(), dtype=torch.int32),
        ids.new_empty(experts + 1, dtype=torch.int32),
    )


@custom_op("peer::touched", mutates_args=())
def touched(bounds: Tensor) -> Tensor:
    """The experts with at least one pair, ascending; waits for a GPU, since their number is a
    shape.
    """
    return (bounds[1:] > bounds[:-1]).nonzero().squeeze(1)


@touched.register_fake
def _(bounds):
    return bounds.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


@custom_op("peer::experts", mutates_args=())
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
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns y (T, D), the pre-activations down·x (T, P) and gate·x (T, P), the last empty without
    a gate.
    """
    if order is None:
        check_ids(ids, down.shape[0])
    parts = engine(impl)
    if impl == "triton" and (order is None or not prefers_expert_order(impl, ids.shape)):
        return parts.fused_experts(x, ids, scores, down, up, gate, activation)
    hidden = parts.gathered_dot(x, down, ids, order)
    gates = hidden.new_empty(0) if gate is None else parts.gathered_dot(x, gate, ids, order)
    weights = scores * activate(hidden, gates, activation)
    return parts.weighted_sum(weights, up, ids), hidden, gates


@experts.register_fake
def _(x, ids, scores, down, up, gate, order, bounds, activation, table_grad, impl):
    hidden = x.new_empty(ids.shape, dtype=wide(x.dtype))
    return (
        torch.empty_like(x, memory_format=torch.contiguous_format),
        hidden,
        (hidden.new_empty(0) if gate is None else torch.empty_like(hidden)),
    )


def activate(hidden: Tensor, gates: Tensor, activation: str) -> Tensor:
    if gates.dim() == 1:
        return ACTIVATIONS[activation](hidden)
    return hidden * ACTIVATIONS[activation](gates)


def activation_gradient(grad: Tensor, before: Tensor, activation: str) -> Tensor:
    if activation == "gelu":
        return torch.ops.aten.gelu_backward(grad, before)
    if activation == "silu":
        return torch.ops.aten.silu_backward(grad, before)
    return torch.ops.aten.threshold_backward(grad, before, 0)


@custom_op("peer::experts_backward", mutates_args=())
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
    found, dhidden, dgates, weights = pair_gradients(
        parts, grad_y, ids, scores, up, order, hidden, gates, activation
    )
    dx, dscores, ddown, dup, dgate = (x.new_empty(0) for _ in range(5))
    if need_scores:
        dscores = found.to(scores.dtype)
    if need_x:
        dx = token_gradient(parts, ids, dhidden, down, dgates, gate)
    if need_tables:
        ddown = parts.table_gradient(dhidden, x, order, bounds, touched)
        dup = parts.table_gradient(weights, grad_y, order, bounds, touched)
        if gate is not None:
            dgate = parts.table_gradient(dgates, x, order, bounds, touched)
    return dx, dscores, ddown, dup, dgate


def pair_gradients(
    parts, grad_y, ids, scores, up, order, hidden, gates, activation
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Of each pair (T, P): dscore, dh, dgate (None without a gate), and the weight of its up row."""
    active = activate(hidden, gates, activation)
    a = parts.gathered_dot(grad_y, up, ids, order)
    weighted = scores * a
    if gates.dim() == 1:
        dhidden, dgates = activation_gradient(weighted, hidden, activation), None
    else:
        dhidden = weighted * ACTIVATIONS[activation](gates)
        dgates = activation_gradient(weighted * hidden, gates, activation)
    return a * active, dhidden, dgates, scores * active


def token_gradient(parts, ids, dhidden, down, dgates, gate) -> Tensor:
    dx = parts.weighted_sum(dhidden, down, ids)
    return dx if gate is None else dx + parts.weighted_sum(dgates, gate, ids)


@experts_backward.register_fake
def _(
    grad_y,
    x,
    ids,
    scores,
    down,
    up,
    gate,
    order,
    bounds,
    touched,
    hidden,
    gates,
    activation,
    impl,
    need_x,
    need_scores,
    need_tables,
):
    rows = down.shape[0] if touched is None else touched.shape[0]
    table = (rows, down.shape[1]) if need_tables else (0,)
    return (
        x.new_empty(x.shape if need_x else (0,)),
        scores.new_empty(scores.shape if need_scores else (0,)),
        down.new_empty(table),
        down.new_empty(table),
        down.new_empty((0,) if gate is None else table),
    )


def experts_context(ctx, inputs, output) -> None:
    *tensors, ctx.activation, ctx.table_grad, ctx.impl = inputs
    _, hidden, gates = output
    ctx.mark_non_differentiable(hidden, gates)
    ctx.save_for_backward(*tensors, hidden, gates)


def experts_gradients(ctx, grad_y, *_):
    x, ids, scores, down, up, gate, order, bounds, hidden, gates = ctx.saved_tensors
    need_x, need_scores = ctx.needs_input_grad[0], ctx.needs_input_grad[2]
    need_tables = any(ctx.needs_input_grad[3:6])
    if need_tables and order is None:
        order, bounds = torch.ops.peer.route(ids, down.shape[0], ctx.impl)
    rows = None
    if need_tables and ctx.table_grad == "sparse":
        rows = torch.ops.peer.touched(bounds)
    dx, dscores, *dtables = torch.ops.peer.experts_backward(
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
        *(None,) * 5,
    )


def table_result(values: Tensor, rows: Tensor | None, shape: torch.Size) -> Tensor:
    if rows is None:
        return values
    return torch.sparse_coo_tensor(
        rows.unsqueeze(0), values, shape, is_coalesced=True, check_invariants=False
    )


experts.register_autograd(experts_gradients, setup_context=experts_context)


@custom_op("peer::bag", mutates_args=())
@without_autocast
def bag(
    ids: Tensor,
    scores: Tensor,
    table: Tensor,
    order: Tensor | None,
    bounds: Tensor | None,
    table_grad: str,
    impl: str,
) -> Tensor:
    if order is None:
        check_ids(ids, table.shape[0])
    return engine(impl).weighted_sum(scores, table, ids)


@bag.register_fake
def _(ids, scores, table, order, bounds, table_grad, impl):
    return table.new_empty(ids.shape[0], table.shape[1])


@custom_op("peer::bag_backward", mutates_args=())
@without_autocast
def bag_backward(
    grad_y: Tensor,
    ids: Tensor,
    scores: Tensor,
    table: Tensor,
    order: Tensor | None,
    bounds: Tensor | None,
    touched: Tensor | None,
    impl: str,
    need_scores: bool,
    need_table: bool,
) -> tuple[Tensor, Tensor]:
    """dscore_p = table_p·dy, d table_p = Σ score·dy; empty where not needed."""
    parts = engine(impl)
    dscores, dtable = scores.new_empty(0), scores.new_empty(0)
    if need_scores:
        dscores = parts.gathered_dot(grad_y, table, ids, order).to(scores.dtype)
    if need_table:
        dtable = parts.table_gradient(scores, grad_y, order, bounds, touched)
    return dscores, dtable


@bag_backward.register_fake
def _(grad_y, ids, scores, table, order, bounds, touched, impl, need_scores, need_table):
    rows = table.shape[0] if touched is None else touched.shape[0]
    return (
        scores.new_empty(scores.shape if need_scores else (0,)),
        table.new_empty((rows, table.shape[1]) if need_table else (0,)),
    )


def bag_context(ctx, inputs, output) -> None:
    *tensors, ctx.table_grad, ctx.impl = inputs
    ctx.save_for_backward(*tensors)


def bag_gradients(ctx, grad_y):
    ids, scores, table, order, bounds = ctx.saved_tensors
    _, need_scores, need_table, *_ = ctx.needs_input_grad
    if need_table and order is None:
        order, bounds = torch.ops.peer.route(ids, table.shape[0], ctx.impl)
    rows = torch.ops.peer.touched(bounds) if need_table and ctx.table_grad == "sparse" else None
    dscores, dtable = torch.ops.peer.bag_backward(
        grad_y.contiguous(),
        ids,
        scores,
        table,
        order,
        bounds,
        rows,
        ctx.impl,
        need_scores,
        need_table,
    )
    return (
        None,
        dscores if need_scores else None,
        table_result(dtable, rows, table.shape) if need_table else None,
        *(None,) * 4,
    )


bag.register_autograd(bag_gradients, setup_context=bag_context)
