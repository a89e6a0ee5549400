"""What people would install instead, with the paper's arguments, and what still differs."""

import importlib
from types import ModuleType

import torch
from torch import Tensor, nn

from suites.speed.cells.case import Cell
from suites.speed.cells.demand import Demand
from suites.speed.cells.matched import DIM_KEY
from suites.speed.subjects import routing
from suites.speed.subjects.subject import DTYPES, NotInstalled, Subject

DIFFERS = {
    "peer_pytorch": "per-head sub-keys, no query batch norm, N(0, 1) tables",
    "product_key_memory": "layer norm over half-queries instead of batch norm over queries",
}


def installed(module: str, distribution: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NotInstalled(
            f"{distribution} is not installed: pip install --editable '.[suites,rivals]'"
        ) from error


def peer_pytorch(cell: Cell, generator: torch.Generator) -> Subject:
    """PEER-pytorch with competing scores and half-queries as wide as the paper's layer here."""
    package = installed("PEER_pytorch", "PEER-pytorch")
    with torch.device(cell.device):
        module = package.PEER(
            cell.dim,
            heads=cell.size("heads"),
            num_experts=cell.experts,
            num_experts_per_head=cell.size("topk"),
            non_competing_scores=False,
            dim_key=DIM_KEY // 2,
        )
    return subject(cell, generator, module, module.weight_down_embed, tables=2)


def product_key_memory(cell: Cell, generator: torch.Generator) -> Subject:
    """product-key-memory with the paper's heads and memories retrieved per head."""
    package = installed("product_key_memory", "product-key-memory")
    with torch.device(cell.device):
        module = package.PKM(
            cell.dim,
            heads=cell.size("heads"),
            num_keys=round(cell.experts**0.5),
            topk=cell.size("topk"),
            dim_head=DIM_KEY // 2,
        )
    return subject(cell, generator, module, module.values, tables=1)


def subject(
    cell: Cell, generator: torch.Generator, module: nn.Module, lookup: nn.Module, tables: int
) -> Subject:
    """Both rivals take (B, L, D); `lookup` is the submodule that is given the retrieved ids."""
    module.to(DTYPES[cell.dtype]).train(cell.phase != "inference")
    x_TD = routing.layer_tokens(cell, generator).to(DTYPES[cell.dtype])
    ids: list[Tensor] = []
    hook = lookup.register_forward_pre_hook(lambda _, given: ids.append(given[0].unique()))
    with torch.no_grad():
        module(x_TD.unsqueeze(0))
    hook.remove()
    T, D, H, K = cell.tokens, cell.dim, cell.size("heads"), cell.size("topk")
    flops = T * (2 * H * DIM_KEY * (D + round(cell.experts**0.5)) + 2 * H * K * D * tables)
    total = sum(p.numel() for p in module.parameters())
    in_tables = tables * cell.experts * D
    x_TD.requires_grad_(cell.phase != "inference")
    return Subject(
        forward=lambda x_TD: module(x_TD.unsqueeze(0)).squeeze(0),
        inputs=(x_TD,),
        demand=Demand(
            flops, total - in_tables + tables * ids[0].numel() * D, 2 * T * D, parameters=total
        ),
        module=module,
        unique_experts=ids[0].numel(),
        sizes={
            "forward_flops": flops,
            "active_parameters": total - in_tables + H * K * D * tables,
            "parameters": total,
            "differs": DIFFERS[cell.layer],
        },
    )


RIVALS = {"peer_pytorch": peer_pytorch, "product_key_memory": product_key_memory}
