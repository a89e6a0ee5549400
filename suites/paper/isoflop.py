"""Figure 1: at a fixed training budget, loss against model size, and each method's compute-optimal model.

Claim: at both budgets PEER has the lowest compute-optimal perplexity, before MoE, PKM and dense (paper,
    section 3.2, figure 1).
Differs from the paper: the sizes of its ladder are not stated, these are ours; top-k MoE is a further
    curve. Rates are tuned at one point (suite `tuning_isoflop`) and kept at all others. Profile tiny:
    two blocks of width 12 to 52, 64² experts, bytes of the Python standard library, 4.5·10¹⁰ and
    1.5·10¹¹ FLOPs. Profile small: a thousandth of the paper's budgets.
Cost: tiny takes about ten minutes on two cores.
Run: python -m suites run isoflop
Read: results/tables/isoflop-tiny-optima.md, the minimum of each parabola with its interval, and
    results/figures/isoflop-tiny/isoflop.svg. A ladder whose minimum lies on its edge has no optimum.
"""

from functools import partial

from suites.language_model.case import Backbone
from suites.paper import methods
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.sweep.experiment import Profile

# What suite `tuning_isoflop` found at profile tiny.
TUNED = methods.Rates(
    dense=(1e-2, 1.0),
    expert_choice=(1e-2, 1.0),
    topk_moe=(6e-3, 1.0),
    pkm=(1.25e-2, 10.0),
    peer=(1.25e-2, 4.0),
)


def ladder(context: int, head_width: int, *sizes: tuple[int, int]) -> tuple[Backbone, ...]:
    """Backbones of (blocks, width)."""
    return tuple(
        Backbone(blocks=blocks, dim=dim, attention_heads=dim // head_width, context=context)
        for blocks, dim in sizes
    )


def like(name: str, **changes: object) -> Profile:
    """The profile of suite `methods` with other numbers; what stays equal is shared."""
    return methods.PROFILES[name].model_copy(update=changes)


PROFILES = {
    "smoke": like(
        "smoke",
        arms=methods.arms(experts=32**2, dim_key=16, rates=TUNED),
        backbones=ladder(32, 8, (2, 8), (2, 16), (2, 32)),
        budgets_flops=(3e9, 9e9),
    ),
    "tiny": like(
        "tiny",
        arms=methods.arms(experts=64**2, dim_key=32, rates=TUNED),
        backbones=ladder(64, 4, (2, 12), (2, 20), (2, 32), (2, 52)),
        budgets_flops=(4.5e10, 1.5e11),
        batch_sequences=4,
        evaluation_tokens=65_536,
    ),
    "small": like(
        "small",
        arms=methods.arms(experts=1024**2, dim_key=128, rates=methods.SMALL),
        backbones=ladder(1024, 64, (6, 256), (8, 384), (8, 512), (12, 768)),
        budgets_flops=(6e15, 2e16),
    ),
    "paper": like(
        "paper",
        arms=methods.arms(experts=1024**2, dim_key=128, rates=methods.PAPER),
        backbones=ladder(2048, 64, (8, 512), (12, 768), (16, 1024), (20, 1280), (24, 1536)),
        budgets_flops=(6e18, 2e19),
    ),
}

command = training_command("isoflop", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
