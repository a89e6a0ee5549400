"""`bag`: weighted sums of table rows, and their gradients."""

from typing import Any

from torch import Tensor
from torch.library import custom_op

from peer.namespace import NAMESPACE
from peer.operators.engine import check_ids, engine, without_autocast
from peer.operators.routing import route, table_result, touched


@custom_op(f"{NAMESPACE}::bag", mutates_args=())
@without_autocast
def bag(
    ids: Tensor,
    scores: Tensor,
    table: Tensor,
    order: Tensor | None,
    bounds: Tensor | None,
    table_grad: str,
    check: bool,
    impl: str,
) -> Tensor:
    if check:
        check_ids(ids, table.shape[0])
    return engine(impl).weighted_sum(scores, table, ids)


@bag.register_fake
def _(
    ids: Tensor,
    scores: Tensor,
    table: Tensor,
    order: Tensor | None,
    bounds: Tensor | None,
    table_grad: str,
    check: bool,
    impl: str,
) -> Tensor:
    return table.new_empty(ids.shape[0], table.shape[1])


@custom_op(f"{NAMESPACE}::bag_backward", mutates_args=())
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
    if impl == "triton":
        return parts.bag_gradients(
            grad_y, scores, table, order, bounds, touched, need_scores, need_table
        )
    dscores, dtable = scores.new_empty(0), scores.new_empty(0)
    if need_scores:
        dscores = parts.gathered_dot(grad_y, table, ids, order).to(scores.dtype)
    if need_table:
        dtable = parts.table_gradient(scores, grad_y, order, bounds, touched)
    return dscores, dtable


@bag_backward.register_fake
def _(
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
    rows = table.shape[0] if touched is None else touched.shape[0]
    return (
        scores.new_empty(scores.shape if need_scores else (0,)),
        table.new_empty((rows, table.shape[1]) if need_table else (0,)),
    )


def bag_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.table_grad, _, ctx.impl = inputs
    ctx.save_for_backward(*tensors)


def bag_gradients(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    ids, scores, table, order, bounds = ctx.saved_tensors
    _, need_scores, need_table, *_ = ctx.needs_input_grad
    if order is None and (need_table or ctx.impl == "triton"):
        order, bounds = route(ids, table.shape[0], False, ctx.impl)
    rows = touched(bounds, ctx.impl) if need_table and ctx.table_grad == "sparse" else None
    dscores, dtable = bag_backward(
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
        *(None,) * 5,
    )


bag.register_autograd(bag_gradients, setup_context=bag_context)
