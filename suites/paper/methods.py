"""Dense, expert-choice MoE, PKM and PEER in one backbone at one training budget.

Claim: at equal training FLOPs PEER reaches a lower loss than dense, MoE and PKM (paper, section 3.2).
Differs from the paper: one backbone and one budget instead of an isoFLOP sweep, and at profile tiny
    128² experts of width 64, bytes as tokens and the Python standard library as text.
Cost: tiny takes minutes on two cores.
Run: python -m suites run methods
Read: results/tables/methods-tiny.md; every row spent the same FLOPs, so rows differ in tokens.
"""

from functools import partial

from suites import experiment
from suites.experiment import Arm, Profile, training_command
from suites.language_model.case import Backbone, Optimization


def arms(experts: int, dim_key: int) -> tuple[Arm, ...]:
    """The four methods with the learning rates that suite `tuning` found for each (profile tiny)."""
    return (
        Arm(layer="dense", optimization=Optimization(learning_rate=8e-3, table_learning_rate=8e-3)),
        Arm(
            layer="expert_choice",
            optimization=Optimization(learning_rate=6e-3, table_learning_rate=6e-3),
        ),
        Arm(
            layer="pkm",
            options={"memories": experts, "dim_key": dim_key},
            optimization=Optimization(learning_rate=6e-3, table_learning_rate=0.3),
        ),
        Arm(
            layer="peer",
            options={"experts": experts, "dim_key": dim_key},
            optimization=Optimization(learning_rate=6e-3, table_learning_rate=0.3),
        ),
    )


PROFILES = {
    # Seconds: every step of the pipeline, and no statement about any method.
    "smoke": Profile(
        arms=arms(experts=32**2, dim_key=16),
        backbones=(Backbone(blocks=2, dim=32, attention_heads=2, context=32),),
        budgets_flops=(6e9,),
        batch_sequences=8,
        evaluation_tokens=8192,
        seeds=(0,),
        device="cpu",
        threads=1,
    ),
    "tiny": Profile(
        arms=arms(experts=128**2, dim_key=32),
        backbones=(Backbone(blocks=4, dim=64, attention_heads=4, context=128),),
        budgets_flops=(5e11,),
        batch_sequences=8,
        evaluation_tokens=131_072,
        seeds=(0, 1, 2),
        device="cpu",
        threads=1,
    ),
}

command = training_command("methods", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
