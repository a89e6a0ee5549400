"""Dense, expert-choice and top-k MoE, PKM and PEER in one backbone at one training budget.

Claim: at equal training FLOPs PEER reaches a lower loss than dense, MoE and PKM (paper, section 3.2).
Differs from the paper: one backbone and one budget instead of an isoFLOP sweep; top-k MoE is a further
    row; at profile tiny 128² experts of width 64, bytes as tokens and the Python standard library as
    text.
Cost: tiny takes minutes on two cores.
Run: python -m suites run methods
Read: results/tables/methods-tiny.md; every row spent the same FLOPs, so rows differ in tokens.
"""

from functools import partial
from typing import NamedTuple

from pydantic import JsonValue

from suites.language_model.case import Backbone, Optimization
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.sweep.experiment import Arm, Profile


class Rates(NamedTuple):
    """Learning rates per layer: of the backbone, and `table_rate`, which only tables feel."""

    dense: tuple[float, float]
    expert_choice: tuple[float, float]
    topk_moe: tuple[float, float]
    pkm: tuple[float, float]
    peer: tuple[float, float]


# What suite `tuning` found at profile tiny.
TUNED = Rates(
    dense=(8e-3, 1.0),
    expert_choice=(1e-2, 1.0),
    topk_moe=(6e-3, 1.0),
    pkm=(8e-3, 1.5),
    peer=(8e-3, 10.0),
)
# Not tuned: a start for suite `tuning` at these profiles.
SMALL = Rates(*3 * [(2e-3, 1.0)], *2 * [(2e-3, 0.1)])
PAPER = Rates(*3 * [(6e-4, 1.0)], *2 * [(6e-4, 0.03)])


def arms(experts: int, dim_key: int, rates: Rates) -> tuple[Arm, ...]:
    """The methods with as many memories as experts, all else as the paper has it."""
    options: dict[str, dict[str, JsonValue]] = {
        "dense": {},
        "expert_choice": {},
        "topk_moe": {},
        "pkm": {"memories": experts, "dim_key": dim_key},
        "peer": {"experts": experts, "dim_key": dim_key},
    }
    return tuple(
        Arm(
            layer=layer,
            options=options[layer],
            optimization=Optimization(learning_rate=rate, table_rate=table),
        )
        for layer, (rate, table) in rates._asdict().items()
    )


PROFILES = {
    # Seconds: every step of the pipeline, and no statement about any method.
    "smoke": Profile(
        arms=arms(experts=32**2, dim_key=16, rates=TUNED),
        backbones=(Backbone(blocks=2, dim=32, attention_heads=2, context=32),),
        budgets_flops=(6e9,),
        batch_sequences=8,
        evaluation_tokens=8192,
        seeds=(0,),
        device="cpu",
        threads=1,
    ),
    "tiny": Profile(
        arms=arms(experts=128**2, dim_key=32, rates=TUNED),
        backbones=(Backbone(blocks=4, dim=64, attention_heads=4, context=128),),
        budgets_flops=(5e11,),
        batch_sequences=8,
        evaluation_tokens=131_072,
        seeds=(0, 1, 2),
        device="cpu",
        threads=1,
    ),
    # One datacenter GPU, minutes per run: the paper's layers at a thousandth of its budget.
    "small": Profile(
        arms=arms(experts=1024**2, dim_key=128, rates=SMALL),
        backbones=(Backbone(blocks=8, dim=512, attention_heads=8, context=1024),),
        budgets_flops=(6e15,),
        batch_sequences=32,
        evaluation_tokens=2**20,
        seeds=(0, 1, 2),
        device="cuda",
        threads=8,
        compiled=True,
        vocabulary=32_000,
    ),
    # A cluster.
    "paper": Profile(
        arms=arms(experts=1024**2, dim_key=128, rates=PAPER),
        backbones=(Backbone(blocks=16, dim=1024, attention_heads=16, context=2048),),
        budgets_flops=(6e18,),
        batch_sequences=128,
        evaluation_tokens=10 * 2**20,
        seeds=(0, 1, 2),
        device="cuda",
        threads=8,
        compiled=True,
        micro_sequences=16,
        vocabulary=32_000,
    ),
}

command = training_command("methods", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
