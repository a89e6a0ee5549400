"""Memory and time of a cell before it is launched, from its sizes alone. Imports no torch.

Bytes are what the cell certainly needs: parameters with their gradients and moments, and the
tensors that its algorithm writes. Seconds are a rough guide for `--dry-run`.
"""

from dataclasses import dataclass

from suites.speed.cells.case import Cell
from suites.speed.cells.demand import element_bytes
from suites.speed.cells.matched import DIM_KEY

# per device: FLOP/s, gathered bytes/s and seconds of compilation that are assumed here
SPEED = {"cpu": (3e10, 2e9, 25.0), "cuda": (2e14, 1e12, 20.0)}


@dataclass(frozen=True)
class Estimate:
    bytes: int
    seconds: float


def estimate(cell: Cell) -> Estimate:
    size = element_bytes(cell)
    parameters = parameter_count(cell)
    copies = {"inference": 1, "forward": 1, "backward": 2, "training_step": 4}[cell.phase]
    pairs = cell.tokens * cell.active_experts
    trained = 1 if cell.phase in ("inference", "forward") else 2
    gathered = pairs * cell.dim * size if is_sparse(cell) else 0
    written = 2 * gathered * trained if gathers(cell) else 0
    scores = 2 * cell.tokens * 8 * round(cell.experts**0.5) * size if is_sparse(cell) else 0
    activations = 6 * cell.tokens * cell.dim * size + scores + written
    # Layers are initialised in fp32 and then cast.
    needed = max(parameters * size * copies + activations, parameters * 4)
    flops_per_s, bytes_per_s, compile_s = SPEED[cell.device]
    dense_flops = 0 if is_sparse(cell) else 2 * cell.tokens * parameters
    if cell.layer == "gemm":
        dense_flops = 2 * cell.size("size") ** 3
    elif cell.layer in ("expert_choice", "topk_moe", "fine_grained_moe"):
        dense_flops = 2 * cell.tokens * parameters // cell.size("experts")
    call_s = (dense_flops / flops_per_s + 4 * gathered / bytes_per_s) * trained
    call_s += parameters * size * (copies - 1) / bytes_per_s
    seconds = 0.3 + max(0.3, 12 * call_s) + (compile_s if cell.compiled else 0)
    return Estimate(bytes=needed, seconds=seconds)


def is_sparse(cell: Cell) -> bool:
    return cell.layer in (
        "peer",
        "pkm",
        "peer_pytorch",
        "product_key_memory",
        "sparsely_gated_linear",
        "memory_plus",
        "ultramem_v2",
        "experts",
        "bag",
    ) or (cell.layer in ("embedding_bag", "retrieve"))


def gathers(cell: Cell) -> bool:
    """Whether the (T, P, D) rows of the experts are written out."""
    eager_reference = cell.impl == "reference" and not cell.compiled
    return cell.layer == "peer_pytorch" or (
        cell.layer in ("peer", "experts", "bag") and eager_reference
    )


def parameter_count(cell: Cell) -> int:
    """Of the layer, or of an operation's tables, and of the decoder around it; without norms."""
    D, N, layer = cell.dim, cell.experts, cell.layer
    router = 8 * DIM_KEY * D + round(N**0.5) * DIM_KEY
    hidden = cell.size("hidden", 4 * D)
    counts = {
        "dense": 2 * D * hidden,
        "dense_glu": 3 * D * hidden,
        "expert_choice": 2 * D * hidden * cell.size("experts", 1),
        "topk_moe": 2 * D * hidden * cell.size("experts", 1),
        "fine_grained_moe": 3 * D * hidden * (cell.size("experts", 1) + 1),
        "sparsely_gated_linear": 2 * N * D + router,
        "memory_plus": N * D + router + 2 * D * D,
        "ultramem_v2": N * D + router + 2 * D * (hidden + D),
        "pkm": N * D + router,
        "peer": 2 * N * D + router,
        "peer_pytorch": 2 * N * D + router,
        "product_key_memory": N * D + router,
        "experts": 2 * N * D,
        "bag": N * D,
        "embedding_bag": N * D,
        "copy": cell.size("bytes", 0) // 2,
        "gemm": 3 * cell.size("size", 0) ** 2,
    }
    count = counts.get(layer, 0)
    if cell.backbone is not None and cell.vocabulary is not None:
        count += 2 * cell.vocabulary * D + cell.backbone.blocks * 12 * D * D
    return count
