"""Every layer at matched FLOPs, bytes and active parameters: forward, backward, training step.

Claim: none of the paper's; it states no times. Floors and rivals are in the same table.
Differs from the paper: one layer alone at initialisation, on distinct, Zipf(1) or equal tokens.
Cost: tiny takes about two minutes on one core; small about four on one datacenter GPU.
Run: python -m suites run layer_speed
Read: results/tables/layer_speed-tiny.md; ratios hold within a group, times only on one machine.
"""

from suites.speed.cells.case import Cell, Phase
from suites.speed.cells.grid import (
    ONE_GPU,
    TWO_CORES,
    Machine,
    Profiles,
    Row,
    comparison,
    with_controls,
)
from suites.speed.cells.matched import Point
from suites.speed.harness.command import planner, speed_command

SUITE = "layer_speed"
TRAINING: tuple[Phase, ...] = ("forward", "backward", "training_step")
EVERYTHING: tuple[Row, ...] = (
    ("dense", None, False),
    ("dense_glu", None, False),
    ("expert_choice", None, False),
    ("topk_moe", None, False),
    ("pkm", "auto", False),
    ("peer", "auto", False),
    ("peer", "reference", False),
    ("peer_pytorch", None, False),
    ("product_key_memory", None, False),
)
# What came after PEER, at equal FLOPs.
SUCCESSORS: tuple[Row, ...] = (
    ("fine_grained_moe", None, False),
    ("sparsely_gated_linear", "auto", False),
    ("memory_plus", "auto", False),
    ("ultramem_v2", "auto", False),
)
COMPILED: tuple[Row, ...] = (("peer", "reference", True),)
SCALED: tuple[Row, ...] = (
    ("dense", None, False),
    ("pkm", "auto", False),
    ("peer", "auto", False),
    ("peer_pytorch", None, False),
)
OURS: tuple[Row, ...] = (
    ("dense", None, False),
    ("topk_moe", None, False),
    ("peer", "auto", False),
)


def axes(machine: Machine, base: Point, along: list[Point], scaled: tuple[Row, ...]) -> list[Cell]:
    """All layers, budgets and routings at `base`; a few layers at the points `along`."""
    cells = comparison(SUITE, machine, base, (*EVERYTHING, *SUCCESSORS), TRAINING)
    # One compilation serves forward and backward, and costs as much as twenty cells.
    cells += comparison(SUITE, machine, base, COMPILED, ("training_step",))
    for point in along:
        cells += comparison(SUITE, machine, point, scaled, ("forward", "training_step"))
    for matched in ("bytes_moved", "active_parameters"):
        cells += comparison(
            SUITE, machine, base, OURS, ("forward", "training_step"), matched=matched
        )
    for routing in ("zipf", "same"):
        cells += comparison(SUITE, machine, base, OURS, TRAINING[:2], routing=routing)
    return cells


def point(dim: int = 256, side: int = 128, heads: int = 8, tokens: int = 256) -> Point:
    return Point(dim=dim, experts=side**2, heads=heads, topk=16, tokens=tokens)


def tiny() -> tuple[Cell, ...]:
    along = [point(tokens=64), point(tokens=512), point(side=64), point(side=256)]
    along += [point(dim=128), point(heads=4)]
    return with_controls(axes(TWO_CORES, point(), along, SCALED), TWO_CORES)


def small() -> tuple[Cell, ...]:
    base = point(dim=1024, side=1024, tokens=8192)
    along = [point(1024, 1024, tokens=tokens) for tokens in (2048, 32768)]
    along += [point(256, 1024, tokens=tokens) for tokens in (2048, 8192, 32768, 131072)]
    along += [point(256, side, tokens=8192) for side in (128, 512)]
    along += [point(256, 1024, heads=heads, tokens=8192) for heads in (4, 16)]
    cells = axes(ONE_GPU, base, along, SCALED)
    aten: tuple[Row, ...] = (("peer", "aten", False),)
    cells += comparison(SUITE, ONE_GPU, base, aten, TRAINING)
    narrow = point(256, 1024, tokens=8192)
    cells += comparison(SUITE, ONE_GPU, narrow, SCALED[::2], ("forward",), dtype="float32")
    return with_controls(cells, ONE_GPU)


PROFILES = Profiles(tiny=tiny, small=small)
command = speed_command(SUITE, __doc__, PROFILES)
planned = planner(PROFILES)
