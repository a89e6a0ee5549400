"""The expert part alone at given routing, beside torch's embedding bag and grouped GEMM.

Claim: none of the paper's. The floor is every distinct row once at the speed of a copy.
Differs from the paper: ids are given: uniform, Zipf(1), all-same, or recorded (`--ids FILE`).
Cost: tiny takes one minute on one core; small about two minutes on one datacenter GPU.
Run: python -m suites run experts_speed
Read: results/tables/experts_speed-tiny.md; a bag reads one table, half the work of `experts`;
    the grouped GEMM has the FLOPs of `experts`.
"""

from functools import partial
from pathlib import Path

from suites.speed.cells.case import Cell, Routing
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

SUITE = "experts_speed"
ROWS: tuple[Row, ...] = (
    ("grouped_mm", None, False),
    ("experts", "auto", False),
    ("experts", "reference", False),
    ("bag", "auto", False),
    ("embedding_bag", None, False),
)
COMPILED: tuple[Row, ...] = (("experts", "reference", True),)
ROUTINGS: tuple[Routing, ...] = ("uniform", "zipf", "same")


def profile(
    machine: Machine, dim: int, tokens: tuple[int, ...], sides: tuple[int, ...]
) -> tuple[Cell, ...]:
    """Every row at every size with uniform routing; the other routings at the first size."""
    first = Point(dim=dim, experts=sides[0] ** 2, heads=8, topk=16, tokens=tokens[0])
    cells: list[Cell] = []
    for side in sides:
        for count in tokens:
            point = Point(dim=dim, experts=side**2, heads=8, topk=16, tokens=count)
            for routing in ROUTINGS if (side, count) == (sides[0], tokens[0]) else ROUTINGS[:1]:
                cells += comparison(
                    SUITE,
                    machine,
                    point,
                    ROWS,
                    ("forward", "backward"),
                    matched=None,
                    routing=routing,
                )
    cells += comparison(SUITE, machine, first, COMPILED, ("forward",), matched=None)
    return with_controls(cells, machine)


def recorded(cells: list[Cell], path: Path) -> list[Cell]:
    """The first comparison of this suite in `cells`, with the ids of the file at `path`."""
    from suites.speed.subjects.routing import load_recorded, recorded_shape

    digest = load_recorded(path)
    _, active_experts, experts = recorded_shape(digest)
    plain = [cell for cell in cells if cell.suite == SUITE and not cell.is_control]
    update = {
        "routing": "recorded",
        "ids_sha256": digest,
        "experts": experts,
        "active_experts": active_experts,
    }
    first = [
        cell for cell in plain if (cell.tokens, cell.experts) == (plain[0].tokens, plain[0].experts)
    ]
    return [
        cell.model_copy(update=update)
        for cell in first
        if cell.routing == "uniform" and not cell.repeat
    ]


PROFILES = Profiles(
    tiny=partial(profile, TWO_CORES, 256, (256,), (128, 256)),
    small=partial(profile, ONE_GPU, 1024, (8192, 2048, 32768), (1024, 256)),
)
command = speed_command(SUITE, __doc__, PROFILES)
planned = planner(PROFILES)
