"""`retrieve`: product keys to scores and ids, and the gradients of queries and sub-keys."""

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from peer.namespace import NAMESPACE
from peer.operators.engine import engine, wide, without_autocast


@custom_op(f"{NAMESPACE}::retrieve", mutates_args=())
@without_autocast
def retrieve(
    query: Tensor, sub_keys: Tensor, topk: int, scores: str, impl: str
) -> tuple[Tensor, Tensor]:
    return engine(impl).retrieve(query, sub_keys, topk, scores)


@retrieve.register_fake
def _(query: Tensor, sub_keys: Tensor, topk: int, scores: str, impl: str) -> tuple[Tensor, Tensor]:
    shape = (*query.shape[:2], topk)
    return query.new_empty(shape, dtype=wide(query.dtype)), query.new_empty(
        shape, dtype=torch.int32
    )


@custom_op(f"{NAMESPACE}::retrieve_backward", mutates_args=())
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
    parts = engine(impl)
    if impl == "triton":
        dquery, dkeys = parts.retrieve_gradients(
            grad, scores, ids, query, sub_keys, nonlinearity, need_keys
        )
        return dquery if need_query else query.new_empty(0), dkeys
    weights = score_gradient(grad, scores, nonlinearity)
    if impl == "native" and sub_keys.dim() == 4 and query.dtype == weights.dtype:
        dquery, dkeys = parts.own_keys_gradients(weights, ids, query, sub_keys)
        return (dquery if need_query else query.new_empty(0)), (
            dkeys if need_keys else query.new_empty(0)
        )
    T, H, K = ids.shape
    S, Q = sub_keys.shape[-2:]
    keys_NQ = sub_keys.reshape(-1, Q)
    sets = keys_NQ.shape[0] // (2 * S)
    offset = torch.arange(2, device=ids.device, dtype=ids.dtype).view(1, 1, 2, 1) * (sets * S)
    if sets > 1:
        offset = offset + torch.arange(H, device=ids.device, dtype=ids.dtype).view(1, H, 1, 1) * S
    rows = torch.stack((ids // S, ids % S), 2) + offset
    rows_RK = rows.view(-1, K)
    weights_RK = weights.unsqueeze(2).expand(T, H, 2, K).reshape(-1, K)
    query_RQ = query.reshape(-1, Q)
    dquery, dkeys = query.new_empty(0), query.new_empty(0)
    if need_query:
        dquery = parts.weighted_sum(weights_RK, keys_NQ, rows_RK).view(query.shape)
    if need_keys:
        order, bounds = parts.route(rows_RK, keys_NQ.shape[0])
        dkeys = parts.table_gradient(weights_RK, query_RQ, order, bounds, None).view(sub_keys.shape)
    return dquery, dkeys


@retrieve_backward.register_fake
def _(
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
    dquery = query.new_empty(query.shape if need_query else (0,))
    return dquery, query.new_empty(sub_keys.shape if need_keys else (0,))


def score_gradient(grad: Tensor, scores: Tensor, nonlinearity: str) -> Tensor:
    """From the gradient of a score to that of the match under it; the score alone determines it."""
    if nonlinearity == "softmax":
        return scores * (grad - (grad * scores).sum(-1, keepdim=True))
    if nonlinearity == "sigmoid":
        return grad * scores * (1 - scores)
    if nonlinearity == "raw":
        return grad
    return grad * (scores > 0)


def retrieve_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    query, sub_keys, _, ctx.nonlinearity, ctx.impl = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*output, query, sub_keys)


def retrieve_gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:2]
    dquery, dkeys = retrieve_backward(
        grad.contiguous(), *ctx.saved_tensors, ctx.nonlinearity, ctx.impl, *needs
    )
    return dquery if needs[0] else None, dkeys if needs[1] else None, None, None, None


retrieve.register_autograd(retrieve_gradients, setup_context=retrieve_context)
