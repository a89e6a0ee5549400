"""Effect against compute: PEER's optimal loss less each method's over budgets, and where it heads.

Claim: at 6·10¹⁸ and 2·10¹⁹ FLOPs PEER's compute-optimal loss is the lowest (paper, section 3.2,
    figure 1). A budget that a desk can buy is five decades below; the trend says what it tells of there.
Differs from the paper: budgets from 10¹⁰ FLOPs on, a ladder of sizes round each optimum up to 10¹³ and
    one size above; 128² experts throughout; top-k MoE is a further row. Rates are tuned at two widths
    (suite `tuning_trend`) with as many trials for each method: twice the width takes half the learning
    rate, each table's own rate stays; below the narrower width all rates stay. Profile desk reads prose
    as bytes, since at these sizes a vocabulary of pieces would hold most parameters.
Cost: tiny takes about ten minutes on two cores; desk about six hours of one core to 10¹³ FLOPs and ten
    more for 10¹⁴: `--budget 1e11` and so on run one budget, and each is complete by itself.
Run: python -m suites run compute_trend
Read: results/tables/compute_trend-tiny-differences.md and -trend.md, results/figures/compute_trend-tiny.
"""

from functools import partial

from suites.language_model.case import Backbone
from suites.paper import methods
from suites.paper.isoflop import PROFILES as ISOFLOP
from suites.paper.isoflop import ladder, like
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.sweep.experiment import Arm, Profile


def climbing(profile: Profile, ladders: dict[float, tuple[Backbone, ...]]) -> Profile:
    return profile.model_copy(update={"budgets_flops": tuple(ladders), "ladders": ladders})


def arms(rates: methods.Rates, up: float, down: float, power: float) -> tuple[Arm, ...]:
    """The methods with 128² experts and memories; PEER's two tables at rates of their own."""
    found = []
    for arm in methods.arms(experts=128**2, dim_key=32, rates=rates):
        own = {"down": down, "up": up} if arm.layer == "peer" else {}
        tuned = arm.optimization.model_copy(update={"table_rates": own})
        changes = {"optimization": tuned, "tuned_dim": NARROW.dim, "width_power": power}
        found.append(arm.model_copy(update=changes))
    return tuple(found)


NARROW, WIDE = ladder(128, 16, (2, 32), (3, 64))
# What suite `tuning_trend` found at profile desk, PEER's tables apart.
TUNED = arms(
    methods.Rates(
        dense=(1.2e-2, 1.0),
        expert_choice=(1e-2, 1.0),
        topk_moe=(6e-3, 1.0),
        pkm=(8e-3, 1.5),
        peer=(8e-3, 1.0),
    ),
    up=1.5,
    down=0.03,
    power=-1.0,  # the median over methods between profiles desk and desk_wide
)

PROFILES = {
    "smoke": climbing(ISOFLOP["smoke"], {b: ladder(32, 8, (2, 16)) for b in (1e9, 2e9, 4e9)}),
    "tiny": climbing(
        ISOFLOP["tiny"],
        {budget: ladder(64, 4, (2, 12), (2, 20), (2, 32)) for budget in (1e10, 3.3e10, 1e11)},
    ),
    # Hours of one core: read prose with --data and --held-out.
    "desk": climbing(
        like("tiny", arms=TUNED, batches={1e10: 1, 1e11: 2, 5e11: 2, 2e12: 4, 1e13: 8, 1e14: 16}),
        {
            1e10: ladder(128, 8, (2, 8), (2, 16), (2, 24), (2, 32)),
            1e11: ladder(128, 8, (2, 16), (2, 24), (2, 32), (2, 48)),
            5e11: ladder(128, 8, (2, 24), (2, 32), (2, 48), (3, 64)),
            2e12: ladder(128, 16, (2, 32), (2, 48), (3, 64), (4, 96)),
            1e13: ladder(128, 16, (3, 64), (4, 96), (4, 128)),
            1e14: ladder(128, 16, (5, 160)),
        },
    ),
    "small": climbing(
        ISOFLOP["small"],
        {
            6e14: ladder(1024, 64, (4, 128), (6, 192), (6, 256)),
            6e15: ISOFLOP["small"].backbones,
            6e16: ladder(1024, 64, (8, 512), (12, 768), (16, 1024)),
        },
    ),
    "paper": climbing(
        ISOFLOP["paper"],
        dict.fromkeys((6e17, 2e18, 6e18, 2e19), ISOFLOP["paper"].backbones),
    ),
}

command = training_command("compute_trend", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
