"""1 to 256 tokens in flight, in evaluation mode without gradients: token-by-token generation.

Claim: none of the paper's. PEER reads h·k rows per token, dense all of its weights per step.
Differs from the paper: one layer alone, without attention or a cache of keys and values.
Cost: tiny takes half a minute on one core; small about one minute on one datacenter GPU.
Run: python -m suites run decode_speed
Read: results/tables/decode_speed-tiny.md; on a GPU caches are flushed before every call.
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
from suites.speed.cells.matched import Point
from suites.speed.harness.command import planner, speed_command

SUITE = "decode_speed"
ROWS: tuple[Row, ...] = (
    ("dense", None, False),
    ("topk_moe", None, False),
    ("pkm", "auto", False),
    ("peer", "auto", False),
    ("peer", "reference", False),
    ("peer_pytorch", None, False),
)


def profile(
    machine: Machine, tokens: tuple[int, ...], dims: tuple[int, ...], side: int
) -> tuple[Cell, ...]:
    cells: list[Cell] = []
    for dim in dims:
        for in_flight in tokens:
            point = Point(dim=dim, experts=side**2, heads=8, topk=16, tokens=in_flight)
            cells += comparison(SUITE, machine, point, ROWS, ("inference",))
    return with_controls(cells, machine)


PROFILES = Profiles(
    tiny=partial(profile, TWO_CORES, (1, 8, 64, 256), (256,), 128),
    small=partial(profile, ONE_GPU, (1, 4, 16, 64, 256), (1024, 4096), 512),
)
command = speed_command(SUITE, __doc__, PROFILES)
planned = planner(PROFILES)
