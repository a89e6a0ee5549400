"""Product-key retrieval alone, forward and backward, beside the bare GEMM of its scores.

Claim: none of the paper's. The bar is 1.5 times the bare GEMM (`scores_gemm`).
Differs from the paper: 8 heads with queries of width 128; the query network is left out.
Cost: tiny takes half a minute on one core; small under one minute on one datacenter GPU.
Run: python -m suites run retrieval_speed
Read: results/tables/retrieval_speed-tiny.md; `dim` is the query's width.
"""

from functools import partial

from suites.speed.cells.case import Cell
from suites.speed.cells.grid import (
    ONE_GPU,
    TWO_CORES,
    Machine,
    Profiles,
    Row,
    comparison,
    with_controls,
)
from suites.speed.cells.matched import DIM_KEY, Point
from suites.speed.harness.command import planner, speed_command

SUITE = "retrieval_speed"
ROWS: tuple[Row, ...] = (
    ("scores_gemm", None, False),
    ("retrieve", "auto", False),
    ("retrieve", "reference", False),
)
COMPILED: tuple[Row, ...] = (("retrieve", "reference", True),)


def profile(machine: Machine, tokens: tuple[int, ...], sides: tuple[int, ...]) -> tuple[Cell, ...]:
    first = Point(dim=DIM_KEY, experts=sides[0] ** 2, heads=8, topk=16, tokens=tokens[0])
    cells: list[Cell] = []
    for side in sides:
        for count in tokens:
            point = Point(dim=DIM_KEY, experts=side**2, heads=8, topk=16, tokens=count)
            cells += comparison(SUITE, machine, point, ROWS, ("forward", "backward"), matched=None)
    cells += comparison(SUITE, machine, first, COMPILED, ("forward",), matched=None)
    return with_controls(cells, machine)


PROFILES = Profiles(
    tiny=partial(profile, TWO_CORES, (256,), (128, 512)),
    small=partial(profile, ONE_GPU, (8192, 2048, 32768), (1024, 128)),
)
command = speed_command(SUITE, __doc__, PROFILES)
planned = planner(PROFILES)
