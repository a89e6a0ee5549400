"""Gradients of the matches under the selected scores: of queries, and through them of sub-keys.

One program owns one query (a token and a head): from the gradients of its K scores it makes those of
the K matches, gathers the K sub-keys of either half, which stay in L2, and writes their weighted sum.
A selected expert i·S + j sends the same weight to row i of one half and to row j of the other; weights
and rows leave as pairs, one list per half, for the walk in expert order that sums the sub-keys'
gradients (`peer.kernels.runs`).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from peer.kernels import launch
from peer.kernels.order import route
from peer.kernels.runs import table_gradient


@triton.jit
def match_gradients_kernel(
    grad_ptr,
    scores_ptr,
    ids_ptr,
    keys_ptr,
    weights_ptr,
    rows_ptr,
    dquery_ptr,
    H: tl.constexpr,
    K: tl.constexpr,
    S: tl.constexpr,
    Q: tl.constexpr,
    PER_HEAD: tl.constexpr,
    NONLINEARITY: tl.constexpr,
    SLOTS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    query = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, SLOTS)
    there = slot < K
    grad = tl.load(grad_ptr + query * K + slot, mask=there, other=0.0).to(tl.float32)
    score = tl.load(scores_ptr + query * K + slot, mask=there, other=0.0)
    expert = tl.load(ids_ptr + query * K + slot, mask=there, other=0)
    if NONLINEARITY == "softmax":
        weight = score * (grad - tl.sum(grad * score, axis=0))
    elif NONLINEARITY == "sigmoid":
        weight = grad * score * (1.0 - score)
    else:
        weight = tl.where(score > 0.0, grad, 0.0)
    first = 0
    if PER_HEAD:
        first = tl.program_id(0) % H * S
    column = tl.arange(0, COLUMNS)
    for half in tl.static_range(2):
        row = expert // S if half == 0 else expert % S
        row += first + half * (H * S if PER_HEAD else S)
        place = (2 * query + half) * K + slot
        tl.store(weights_ptr + place, weight, mask=there)
        tl.store(rows_ptr + place, row, mask=there)
        address = row[:, None].to(tl.int64) * Q + column[None, :]
        mask = there[:, None] & (column < Q)[None, :]
        keys = tl.load(keys_ptr + address, mask=mask, other=0.0).to(tl.float32)
        dquery = tl.sum(weight[:, None] * keys, axis=0)
        out = dquery_ptr + (2 * query + half) * Q + column
        tl.store(out, dquery.to(dquery_ptr.dtype.element_ty), mask=column < Q)


def retrieve_gradients(
    grad_THK: Tensor,
    scores_THK: Tensor,
    ids_THK: Tensor,
    query_THQ: Tensor,
    sub_keys: Tensor,
    nonlinearity: str,
    need_keys: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of queries and sub-keys, the latter empty where not needed."""
    (T, H, K), (S, Q) = ids_THK.shape, sub_keys.shape[-2:]
    sub_keys, query_THQ = sub_keys.contiguous(), query_THQ.contiguous()
    weights_RK = scores_THK.new_empty(2 * T * H, K)
    rows_RK = ids_THK.new_empty(2 * T * H, K)
    dquery = torch.empty_like(query_THQ)
    if T > 0:
        with launch.on_device(query_THQ):
            match_gradients_kernel[(T * H,)](
                grad_THK.contiguous(),
                scores_THK,
                ids_THK,
                sub_keys,
                weights_RK,
                rows_RK,
                dquery,
                H=H,
                K=K,
                S=S,
                Q=Q,
                PER_HEAD=sub_keys.dim() == 4,
                NONLINEARITY=nonlinearity,
                **launch.matches(Q, K),
            )
    if not need_keys:
        return dquery, sub_keys.new_empty(0)
    rows = sub_keys.numel() // Q
    order, experts = route(rows_RK, rows)
    dkeys = table_gradient(weights_RK, query_THQ.view(-1, Q), order, experts, rows)
    return dquery, dkeys.view(sub_keys.shape)
