"""Which experts a call meets: uniform, Zipf(1), all the same, or recorded from a trained model.

Operations are given expert ids. A layer routes by itself, so its routing is imposed through its
tokens: all distinct, drawn with Zipf(1) frequencies from as many distinct ones, or one repeated.
"""

import hashlib
from pathlib import Path

import numpy
import torch
from torch import Tensor, nn

from suites.errors import UserError
from suites.speed.cells.case import Cell

RECORDED: dict[str, numpy.ndarray] = {}


def layer_tokens(cell: Cell, generator: torch.Generator) -> Tensor:
    """(T, D) tokens, N(0, 1)."""
    T = cell.tokens
    distinct = torch.randn(T, cell.dim, generator=generator, device=cell.device)
    if cell.routing == "zipf":
        return distinct[zipf(T, T, generator)]
    if cell.routing == "same":
        return distinct[:1].repeat(T, 1)
    if cell.routing == "uniform":
        return distinct
    raise ValueError("a layer routes by itself; recorded ids go to experts_speed")


def expert_ids(cell: Cell, generator: torch.Generator) -> Tensor:
    """(T, P) int32 expert ids; uniform and Zipf draws may repeat an expert within a token."""
    T, P, N = cell.tokens, cell.active_experts, cell.experts
    if cell.routing == "uniform":
        return torch.randint(N, (T, P), generator=generator, device=cell.device, dtype=torch.int32)
    if cell.routing == "zipf":
        by_rank = torch.randperm(N, generator=generator, device=cell.device)
        return by_rank[zipf(N, T * P, generator)].view(T, P).int()
    if cell.routing == "same":
        return torch.arange(P, device=cell.device, dtype=torch.int32).repeat(T, 1)
    return torch.from_numpy(recorded_ids(cell)).to(cell.device)


def zipf(ranks: int, draws: int, generator: torch.Generator) -> Tensor:
    """(draws,) ranks in [0, ranks), rank r with probability proportional to 1 / (r + 1)."""
    device = generator.device
    weight = 1 / torch.arange(1, ranks + 1, device=device, dtype=torch.float64)
    total = weight.cumsum(0)
    uniform = torch.rand(draws, generator=generator, device=device, dtype=torch.float64)
    return torch.searchsorted(total, uniform * total[-1]).clamp(max=ranks - 1)


def load_recorded(path: Path) -> str:
    """Reads a file that `record` wrote and returns its sha256, by which cells name it."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        ids = numpy.load(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read recorded ids from {path}: {error}") from error
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise UserError(f"{path} must hold integer ids (tokens, h·k); got {ids.dtype} {ids.shape}")
    RECORDED[digest] = ids.astype(numpy.int32)
    return digest


def recorded_shape(digest: str) -> tuple[int, int, int]:
    """Tokens, h·k, and the smallest square number of experts that holds all recorded ids."""
    ids = RECORDED[digest]
    side = int(numpy.ceil(numpy.sqrt(ids.max() + 1)))
    return ids.shape[0], ids.shape[1], side * side


def recorded_ids(cell: Cell) -> numpy.ndarray:
    """(T, P): the recorded tokens from the first, begun again where the cell has more."""
    if cell.ids_sha256 not in RECORDED:
        raise UserError("this cell needs the file of recorded ids; name it with --ids FILE")
    return numpy.resize(RECORDED[cell.ids_sha256], (cell.tokens, cell.active_experts))


def record(model: nn.Module, batches: list[Tensor], path: Path) -> None:
    """Writes the ids (tokens, h·k) that the first product-key router of `model` picks."""
    from peer import ProductKeyRouter

    router = next((m for m in model.modules() if isinstance(m, ProductKeyRouter)), None)
    if router is None:
        raise ValueError("the model has no ProductKeyRouter, so there is no routing to record")
    picked: list[Tensor] = []
    hook = router.register_forward_hook(lambda _m, _x, out: picked.append(out[1].flatten(1).cpu()))
    with torch.no_grad():
        for batch in batches:
            model(batch)
    hook.remove()
    numpy.save(path, torch.cat(picked).numpy())
