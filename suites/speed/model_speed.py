"""Training the decoder with one sparse layer and its dense backbone, eager and compiled.

Claim: none of the paper's; it compares at matched FLOPs, which say little about time.
Differs from the paper: bytes as tokens at profile tiny; one AdamW step on a fixed batch.
Cost: tiny takes one minute on one core, half of it compiling; small about three on one GPU.
Run: python -m suites run model_speed
Read: results/tables/model_speed-tiny.md; tokens/s and peak bytes of a whole training step.
"""

from functools import partial

from suites.language_model.case import Backbone
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

SUITE = "model_speed"


def profile(
    machine: Machine,
    backbone: Backbone,
    vocabulary: int,
    side: int,
    sequences: int,
    rows: tuple[Row, ...],
):
    point = Point(
        dim=backbone.dim, experts=side**2, heads=8, topk=16, tokens=sequences * backbone.context
    )
    cells: list[Cell] = [
        cell.model_copy(update={"backbone": backbone, "vocabulary": vocabulary})
        for cell in comparison(SUITE, machine, point, rows, ("training_step",))
    ]
    return with_controls(cells, machine)


EAGER: tuple[Row, ...] = (
    ("dense", None, False),
    ("expert_choice", None, False),
    ("topk_moe", None, False),
    ("pkm", "auto", False),
    ("peer", "auto", False),
)
COMPILED: tuple[Row, ...] = (("dense", None, True), ("peer", "auto", True))
PROFILES = Profiles(
    tiny=partial(
        profile,
        TWO_CORES,
        Backbone(blocks=2, dim=128, attention_heads=4, context=128),
        vocabulary=256,
        side=128,
        sequences=4,
        rows=EAGER + COMPILED,
    ),
    small=partial(
        profile,
        ONE_GPU,
        Backbone(blocks=8, dim=1024, attention_heads=8, context=2048),
        vocabulary=32_000,
        side=1024,
        sequences=8,
        rows=EAGER + COMPILED,
    ),
)
command = speed_command(SUITE, __doc__, PROFILES)
planned = planner(PROFILES)
