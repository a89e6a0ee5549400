"""What one process of several sends in a training step, in closed form; tests count it.

A collective sends what a ring sends: of n bytes that each process ends with, an all-gather and a
reduce-scatter send n·(R − 1)/R, an all-to-all as much of what each begins with, an all-reduce twice that.
"""

from typing import Any, NamedTuple

from torch import nn

from baselines import PKM, MemoryPlus, SparselyGatedLinear
from peer import PEER
from peer.sharded import ID_BYTES, SHARDINGS, Sharding, fits, wire
from suites.errors import UserError
from suites.language_model.decoder import Decoder

SIZE = 4  # bytes of a float32: parameters, gradients, and tokens where they meet tables
# They read their tables by `peer.experts` and `peer.bag` alone; the tables of others go through FSDP2.
SPREAD = (PEER, PKM, SparselyGatedLinear, MemoryPlus)


class Read(NamedTuple):
    """How a layer reads its tables, as `peer.sharded.wire` takes it."""

    pairs: int
    dim: int
    dots: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, layer: nn.Module) -> "Read":
        """Of a layer of SPREAD."""
        assert isinstance(layer, SPREAD)
        summed = layer.values if isinstance(layer, PKM | MemoryPlus) else layer.up
        dots = 0 if isinstance(layer, PKM | MemoryPlus) else len(layer.tables()) - 1
        pairs = layer.router.heads * layer.router.topk
        return cls(pairs, summed.shape[1], dots, tuple(summed.shape))


def reads(model: Decoder) -> list[Read]:
    return [Read.of(layer) for layer in model.layers() if isinstance(layer, SPREAD)]


def table_bytes(model: Decoder, sharding: Sharding, ranks: int, sequences: int) -> int:
    """For the tables in one call with so many sequences in a process, forward and backward."""
    tokens = sequences * model.backbone.context
    return sum(
        wire(
            sharding, ranks=ranks, tokens=tokens, pairs=r.pairs, dim=r.dim, dots=r.dots, size=SIZE
        ).total_bytes
        for r in reads(model)
    )


def received_bytes(model: Decoder, sharding: Sharding, ranks: int, sequences: int) -> int:
    """What a call's tables keep until backward of other processes' tokens: those, ids and weights of all."""
    tokens = sequences * model.backbone.context
    seen = tokens if sharding == "columns" else ranks * tokens
    return sum(
        (r.dots > 0) * seen * r.dim * SIZE + ranks * tokens * r.pairs * (ID_BYTES + SIZE)
        for r in reads(model)
    )


def check_fits(model: Decoder, sharding: Sharding, ranks: int) -> None:
    """Raises UserError for tables that do not divide."""
    for read in reads(model):
        if not fits(sharding, ranks, read.shape):
            what = "their width" if sharding == "columns" else "their number of rows"
            raise UserError(
                f"tables of {read.shape[0]:,} × {read.shape[1]:,} do not divide by {sharding} over "
                f"{ranks} processes: take a number of processes that divides {what}, or --sharding"
            )


def choose(model: Decoder, ranks: int, sequences: int) -> Sharding | None:
    """What sends less of what divides, columns where both send as much; None without tables to spread.

    Raises UserError where neither divides.
    """
    found = reads(model)
    if not found or ranks == 1:
        return None
    fitting = [s for s in SHARDINGS if all(fits(s, ranks, read.shape) for read in found)]
    if not fitting:
        check_fits(model, "columns", ranks)
    return min(fitting, key=lambda s: table_bytes(model, s, ranks, sequences))


def backbone_bytes(model: Decoder, ranks: int) -> int:
    """What FSDP2 sends in one call: parameters, of blocks again in backward, and gradients."""
    blocks = [gathered_bytes(block, model, ranks) for block in model.blocks]
    return 2 * gathered_bytes(model, model, ranks) + sum(blocks)


def gathered_bytes(module: nn.Module, model: Decoder, ranks: int) -> int:
    """Of the parameters of `module` that FSDP2 has, each filled up to a multiple of the processes."""
    own = fsdp_parameters(module, model)
    return (ranks - 1) * SIZE * sum(-(-p.shape[0] // ranks) * p[0].numel() for p in own)


def whole_bytes(model: Decoder) -> int:
    """Parameters and gradients that a process holds whole at a time: those in no block, and a block's."""
    blocks = [numbers(fsdp_parameters(block, model)) for block in model.blocks]
    outside = numbers(fsdp_parameters(model, model)) - sum(blocks)
    return 2 * SIZE * (outside + max(blocks))


def fsdp_parameters(module: nn.Module, model: Decoder) -> list[nn.Parameter]:
    """Those of `module` but for tables that are spread."""
    spread = {id(t) for m in model.layers() if isinstance(m, SPREAD) for t in m.tables()}
    return [p for p in module.parameters() if id(p) not in spread]


def numbers(parameters: list[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)


def batch_norm_bytes(model: Decoder, ranks: int) -> int:
    """In one call: two sums over tokens, and their gradients."""
    features = sum(m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm1d))
    return 4 * reduced(features, ranks)


def after_step_bytes(model: Decoder, ranks: int) -> int:
    """In one step: the block of a layer that changes then, and what it counted in 64 bits."""
    sent = 0
    for block in model.blocks:
        layer: Any = block.ffw
        if hasattr(layer, "after_step"):
            counts = [b.numel() for b in layer.buffers(recurse=False) if not b.is_floating_point()]
            counted = 2 * sum(reduced(count, ranks) for count in counts)
            sent += gathered_bytes(block, model, ranks) + counted
    return sent


def clip_bytes(ranks: int) -> int:
    """In one step: a norm."""
    return reduced(1, ranks)


def reduced(count: int, ranks: int) -> int:
    """An all-reduce of so many float32 numbers."""
    return 2 * (ranks - 1) * count * SIZE // ranks


def step_bytes(
    model: Decoder, sharding: Sharding | None, ranks: int, sequences: int, calls: int = 1
) -> dict[str, int]:
    """By part; `sequences` of a process in each of so many calls, whose gradients are summed."""
    return {
        "tables": calls * (table_bytes(model, sharding, ranks, sequences) if sharding else 0),
        "backbone": calls * backbone_bytes(model, ranks),
        "batch_norm": calls * batch_norm_bytes(model, ranks),
        "after_step": after_step_bytes(model, ranks),
        "clip": clip_bytes(ranks),
    }
