"""Registered layers and the decoder as subjects."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from suites.language_model.decoder import Decoder
from suites.layers import build
from suites.speed.cells.case import Cell
from suites.speed.cells.demand import Demand, element_bytes
from suites.speed.cells.matched import touched
from suites.speed.subjects import routing
from suites.speed.subjects.subject import DTYPES, Subject

PROBE_TOKENS = 64  # enough to see a wrong kernel, few enough for the reference's (T, P, D) gathers


def layer(cell: Cell, generator: torch.Generator) -> Subject:
    """A registered layer on (T, D) tokens."""
    with torch.device(cell.device):
        module = build(cell.layer, cell.dim, cell.options).to(DTYPES[cell.dtype])
    module.train(cell.phase != "inference")
    x_TD = routing.layer_tokens(cell, generator).to(DTYPES[cell.dtype])
    unique, available = distinct_experts(module, x_TD), total_experts(module)
    total = sum(p.numel() for p in module.parameters())
    in_tables = sum(p.numel() for p in experts_of(module))
    share = 1.0 if unique is None or available is None else unique / available
    uniform = 1.0
    if available is not None and (drawn := draws(module)) is not None:
        uniform = touched(available, drawn * cell.tokens) / available
    flops = sum(module.flops(cell.tokens).values())
    demand = Demand(
        forward_flops=flops,
        weights=round(total - in_tables * (1 - share)),
        activations=2 * x_TD.numel(),
        parameters=total,
    )
    moved = (total - in_tables * (1 - uniform) + demand.activations) * element_bytes(cell)
    x_TD.requires_grad_(cell.phase != "inference")
    return Subject(
        forward=module,
        inputs=(x_TD,),
        demand=demand,
        module=module,
        unique_experts=unique,
        probe=lambda: module(x_TD[:PROBE_TOKENS]),
        truth=(lambda: by_reference(module, x_TD[:PROBE_TOKENS])) if engines(module) else None,
        sizes={
            "forward_flops": flops,
            "active_parameters": module.active_parameters(),
            "parameters": total,
            "uniform_bytes_moved": round(moved),
            "implementation": getattr(module, "implementation", "torch"),
        },
    )


def decoder(cell: Cell, generator: torch.Generator) -> Subject:
    """The decoder with one `layer` in its middle, from token ids to the training loss."""
    assert cell.backbone is not None
    assert cell.vocabulary is not None
    middle = (cell.backbone.blocks // 2,)
    with torch.device(cell.device):
        model = Decoder(cell.backbone, cell.vocabulary, cell.layer, cell.options, middle)
    model.to(DTYPES[cell.dtype])
    sequences = cell.tokens // cell.backbone.context
    ids = routing.zipf(cell.vocabulary, sequences * (cell.backbone.context + 1), generator)
    ids_BL = ids.view(sequences, -1)

    def loss(ids_BL: Tensor) -> Tensor:
        logits, asked = model(ids_BL[:, :-1], with_loss=True)
        return F.cross_entropy(logits.flatten(0, 1).float(), ids_BL[:, 1:].flatten()) + asked

    total = model.parameters_total()
    flops = sum(model.flops(sequences).values())
    return Subject(
        forward=loss,
        inputs=(ids_BL,),
        demand=Demand(flops, weights=total, activations=0, parameters=total),
        module=model,
        sizes={
            "forward_flops": flops,
            "active_parameters": model.active_parameters(),
            "parameters": total,
        },
    )


def distinct_experts(module: Any, x_TD: Tensor) -> int | None:
    """How many experts the call touches; None for a layer without a choice."""
    router = getattr(module, "router", None)
    with torch.no_grad():
        if router is None:
            ids = module.selected(x_TD)
            return None if ids is None else ids.unique().numel()
        routed = router(x_TD)
    if isinstance(routed, tuple):
        return routed[1].unique().numel()
    if hasattr(module, "topk"):
        return routed.topk(module.topk, dim=-1).indices.unique().numel()
    return min(module.experts, module.experts * x_TD.shape[0])


def total_experts(module: Any) -> int | None:
    router = getattr(module, "router", None)
    return getattr(router, "pool", None) or getattr(module, "experts", None)


def draws(module: Any) -> int | None:
    """Experts per token, None where experts choose."""
    router = getattr(module, "router", None)
    if router is not None and hasattr(router, "topk"):
        return router.heads * router.topk
    return getattr(module, "topk", None)


def experts_of(module: Any) -> list[nn.Parameter]:
    """The parameters that a token meets in part: tables, or an MoE's stacked matrices."""
    return module.tables() or [p for p in module.parameters() if p.dim() == 3]


def engines(module: nn.Module) -> list[Any]:
    return [m for m in module.modules() if hasattr(m, "impl")]


@contextmanager
def reference(module: nn.Module) -> Iterator[None]:
    """Inside, the module computes with the same parameters by its reference."""
    named = {m: m.impl for m in engines(module)}
    try:
        for m in named:
            m.impl = "reference"
        yield
    finally:
        for m, impl in named.items():
            m.impl = impl


def by_reference(module: nn.Module, x_TD: Tensor) -> Tensor:
    with reference(module):
        return module(x_TD)
