"""The oracle: Algorithm 1 of the paper in plain eager torch, readable first, float64-able, any
device.

Shape legend, used in every file of this package: T tokens, D model width, H heads, K experts
retrieved per head, P = H·K experts per token, N experts, S = √N sub-keys per half, Q half-query
width (dim_key / 2).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SCORES = {
    "softmax": lambda best: best.softmax(-1),
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "raw": lambda best: best,
}
ACTIVATIONS = {"gelu": F.gelu, "relu": torch.relu, "silu": F.silu, "none": lambda hidden: hidden}


def top(values: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """The largest `topk` of the last axis, best first; equal values keep the order of their
    positions.
    """
    order = values.sort(dim=-1, descending=True, stable=True).indices[..., :topk]
    return values.gather(-1, order), order


def retrieve(query_THQ: Tensor, sub_keys: Tensor, topk: int, scores: str) -> tuple[Tensor, Tensor]:
    """Equations 1, 2, 4 and 5: the `topk` best of all S² product keys per token and head.

    query_THQ (T, H, 2·Q); sub_keys (2, S, Q) shared by the heads or (2, H, S, Q).
    Returns scores (T, H, K), differentiable, and ids (T, H, K) int32, best first, ties by the
    lowest id.
    """
    heads = query_THQ.shape[1]
    S = sub_keys.shape[-2]
    query = query_THQ.unflatten(-1, (2, -1))
    keys = sub_keys.unsqueeze(1).expand(2, heads, S, -1) if sub_keys.dim() == 3 else sub_keys
    halves = torch.einsum("thcq,chsq->cths", query, keys)
    (first, row), (second, column) = (top(half, topk) for half in halves)
    sums = (first.unsqueeze(-1) + second.unsqueeze(-2)).flatten(-2)
    ids = (row.unsqueeze(-1) * S + column.unsqueeze(-2)).flatten(-2)
    by_id = ids.argsort(-1)  # so that the stable sort in `top` breaks ties by the lowest expert id
    best, position = top(sums.gather(-1, by_id), topk)
    return SCORES[scores](best), ids.gather(-1, by_id).gather(-1, position).int()


def experts(
    x_TD: Tensor,
    ids_TP: Tensor,
    scores_TP: Tensor,
    down_ND: Tensor,
    up_ND: Tensor,
    gate_ND: Tensor | None,
    activation: str,
) -> Tensor:
    """Equations 3 and 6: y = Σ_p score_p · σ(down_pᵀ x) · up_p, and with a gate table σ(gate_pᵀ x)
    · (down_pᵀ x).
    """
    ids = ids_TP.long()
    hidden_TP = torch.einsum("td,tpd->tp", x_TD, down_ND[ids])
    if gate_ND is None:
        hidden_TP = ACTIVATIONS[activation](hidden_TP)
    else:
        hidden_TP = hidden_TP * ACTIVATIONS[activation](
            torch.einsum("td,tpd->tp", x_TD, gate_ND[ids])
        )
    return torch.einsum("tp,tpd->td", scores_TP * hidden_TP, up_ND[ids])


def bag(ids_TP: Tensor, scores_TP: Tensor, table_ND: Tensor) -> Tensor:
    """The weighted sum of table rows, PKM's read: y = Σ_p score_p · table_p."""
    return torch.einsum("tp,tpd->td", scores_TP, table_ND[ids_TP.long()])
