"""The operation's parts, and what torch offers for each, as subjects; routing is given.

`experts` is PEER's expert part; `bag` and torch's `embedding_bag` read one weighted table, half of
it; `grouped_mm` has the FLOPs of `experts` in an MoE's coarse experts, rows already sorted;
`scores_gemm` is the two matrix products of `retrieve` alone, its floor in practice.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from peer import bag, experts, retrieve
from suites.speed.cells.case import Cell
from suites.speed.cells.demand import Demand
from suites.speed.subjects import routing
from suites.speed.subjects.feedforward import PROBE_TOKENS
from suites.speed.subjects.subject import Subject, normal

HEADS, DIM_KEY, COARSE_EXPERTS = 8, 128, 64


def experts_subject(cell: Cell, generator: torch.Generator) -> Subject:
    """peer.experts on (T, D) tokens and two (N, D) tables."""
    ids_TP, scores_TP, unique = routes(cell, generator)
    x_TD = normal(cell, generator, cell.tokens, cell.dim)
    down_ND = normal(cell, generator, cell.experts, cell.dim, std=cell.dim**-0.5)
    up_ND = normal(cell, generator, cell.experts, cell.dim)
    T, P, D = cell.tokens, cell.active_experts, cell.dim

    def forward(x_TD, scores_TP, down_ND, up_ND):
        return experts(x_TD, ids_TP, scores_TP, down_ND, up_ND, **engine(cell))

    def truth() -> Tensor:
        rows, ids = ids_TP[:PROBE_TOKENS].unique(return_inverse=True)
        x, scores = x_TD[:PROBE_TOKENS].double(), scores_TP[:PROBE_TOKENS].double()
        tables = (table[rows].double() for table in (down_ND, up_ND))
        return experts(x, ids, scores, *tables, impl="reference")

    return Subject(
        forward=forward,
        inputs=(x_TD, scores_TP, down_ND, up_ND),
        demand=Demand(4 * T * P * D, 2 * unique * D, 2 * T * D + T * P, 4 * T * P),
        unique_experts=unique,
        probe=lambda: forward(x_TD, scores_TP, down_ND, up_ND)[:PROBE_TOKENS],
        truth=truth,
    )


def bag_subject(cell: Cell, generator: torch.Generator) -> Subject:
    """peer.bag, or torch's own embedding_bag, on one (N, D) table."""
    ids_TP, scores_TP, unique = routes(cell, generator)
    table_ND = normal(cell, generator, cell.experts, cell.dim)
    T, P, D = cell.tokens, cell.active_experts, cell.dim
    ids_int64 = ids_TP.long()

    def forward(scores_TP, table_ND):
        if cell.layer == "embedding_bag":
            return F.embedding_bag(ids_int64, table_ND, per_sample_weights=scores_TP, mode="sum")
        return bag(ids_TP, scores_TP, table_ND, **engine(cell))

    def truth() -> Tensor:
        rows, ids = ids_TP[:PROBE_TOKENS].unique(return_inverse=True)
        scores = scores_TP[:PROBE_TOKENS].double()
        return bag(ids, scores, table_ND[rows].double(), impl="reference")

    return Subject(
        forward=forward,
        inputs=(scores_TP, table_ND),
        demand=Demand(2 * T * P * D, unique * D, T * D + T * P, 4 * T * P),
        unique_experts=unique,
        probe=lambda: forward(scores_TP, table_ND)[:PROBE_TOKENS],
        truth=truth,
    )


def grouped_mm_subject(cell: Cell, generator: torch.Generator) -> Subject:
    """Two grouped GEMMs with h·k hidden neurons per token, in 64 equally loaded experts."""
    T, P, D = cell.tokens, cell.active_experts, cell.dim
    loads = torch.full((COARSE_EXPERTS,), T // COARSE_EXPERTS, device=cell.device)
    loads[: T % COARSE_EXPERTS] += 1
    ends = loads.cumsum(0).int()
    x_TD = normal(cell, generator, T, D)
    up = normal(cell, generator, COARSE_EXPERTS, D, P, std=D**-0.5)
    down = normal(cell, generator, COARSE_EXPERTS, P, D, std=P**-0.5)

    def forward(x_TD, up, down):
        return F.grouped_mm(F.gelu(F.grouped_mm(x_TD, up, offs=ends)), down, offs=ends)

    return Subject(
        forward=forward,
        inputs=(x_TD, up, down),
        demand=Demand(4 * T * P * D, 2 * min(COARSE_EXPERTS, T) * P * D, 2 * T * D),
    )


def retrieve_subject(cell: Cell, generator: torch.Generator) -> Subject:
    """peer.retrieve with 8 heads, queries of width 128 and √N shared sub-keys per half."""
    topk = cell.active_experts // HEADS
    query_THQ, sub_keys = queries(cell, generator)

    def forward(query_THQ, sub_keys):
        return retrieve(query_THQ, sub_keys, topk, **engine(cell))[0]

    def truth() -> Tensor:
        return retrieve(
            query_THQ[:PROBE_TOKENS].double(), sub_keys.double(), topk, impl="reference"
        )[0]

    with torch.no_grad():
        ids = retrieve(query_THQ, sub_keys, topk, **engine(cell))[1]
    pairs = cell.tokens * cell.active_experts
    return Subject(
        forward=forward,
        inputs=(query_THQ, sub_keys),
        demand=Demand(
            2 * query_THQ.numel() * sub_keys.shape[1],
            sub_keys.numel(),
            query_THQ.numel() + pairs,
            4 * pairs,
        ),
        unique_experts=ids.unique().numel(),
        probe=lambda: forward(query_THQ[:PROBE_TOKENS], sub_keys),
        truth=truth,
    )


def scores_gemm_subject(cell: Cell, generator: torch.Generator) -> Subject:
    """The scores (T·h, √N) of both halves, written out."""
    query_THQ, sub_keys = queries(cell, generator)
    halves = query_THQ.detach().flatten(0, 1).unflatten(-1, (2, -1)).transpose(0, 1).contiguous()
    halves.requires_grad_(query_THQ.requires_grad)
    return Subject(
        forward=lambda halves, sub_keys: torch.bmm(halves, sub_keys.transpose(1, 2)),
        inputs=(halves, sub_keys),
        demand=Demand(
            2 * halves.numel() * sub_keys.shape[1],
            sub_keys.numel(),
            halves.numel() + 2 * halves.shape[1] * sub_keys.shape[1],
        ),
    )


def routes(cell: Cell, generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
    """ids (T, P), scores (T, P) and the number of distinct experts."""
    ids_TP = routing.expert_ids(cell, generator)
    scores_TP = normal(cell, generator, *ids_TP.shape).detach().softmax(-1)
    return (
        ids_TP,
        scores_TP.requires_grad_(cell.phase != "inference"),
        ids_TP.unique().numel(),
    )


def engine(cell: Cell) -> dict[str, Any]:
    """Operations take one option, the implementation."""
    return dict(cell.options)


def queries(cell: Cell, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(T, h, 2·Q) unit-variance queries, (2, √N, Q) sub-keys."""
    side = math.isqrt(cell.experts)
    query_THQ = normal(cell, generator, cell.tokens, HEADS, DIM_KEY)
    return query_THQ, normal(cell, generator, 2, side, DIM_KEY // 2, std=DIM_KEY**-0.5)


OPERATIONS = {
    "experts": experts_subject,
    "bag": bag_subject,
    "embedding_bag": bag_subject,
    "grouped_mm": grouped_mm_subject,
    "retrieve": retrieve_subject,
    "scores_gemm": scores_gemm_subject,
}
