"""The learning rates of suite `compute_trend`, tuned at two widths with twelve trials for each method.

Claim: none of the paper's; without it a comparison of methods is void.
Differs from the paper: it states no learning rates. Methods without tables try twelve backbone rates,
    PKM three times four for its values, PEER three times two for `down` and two for `up`: one rate for
    both drowns a model in its own layer. Profile desk_wide tries three learning rates for each method at
    twice the width of desk and five times its budget, each table's own rate as it is: the power of the
    width with which the learning rate goes is the median over methods between the two.
Cost: tiny takes about six minutes on two cores; desk and desk_wide about half an hour of one each.
Run: python -m suites run tuning_trend
Read: results/tables/tuning_trend-desk.md; `suites/paper/compute_trend.py` takes the best mean of each
    method, and a best trial on the edge of its grid asks for a wider one.
"""

from functools import partial
from itertools import product

from suites.language_model.case import Backbone
from suites.paper.compute_trend import NARROW, TUNED, WIDE
from suites.paper.compute_trend import PROFILES as TREND
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.sweep.experiment import Arm, Profile

SEEDS = (1000, 1001)
RATES = (2.5e-3, 3.5e-3, 5e-3, 6e-3, 7e-3, 8.5e-3, 1e-2, 1.2e-2, 1.4e-2, 1.7e-2, 2e-2, 2.8e-2)
OF_TABLES = (5e-3, 8e-3, 1.25e-2)
VALUES = (1.5, 4.0, 10.0, 25.0)
SHARES = (0.5, 0.7, 1.0)
PAIRS = tuple(product((0.03, 0.3), (1.5, 4.0)))  # down, up


def trials(arm: Arm) -> tuple[Arm, ...]:
    """`arm` at every rate of its grid, at the width that is tuned."""
    if arm.layer == "peer":
        grid = [(rate, {"down": down, "up": up}) for rate, (down, up) in product(OF_TABLES, PAIRS)]
    elif arm.layer == "pkm":
        grid = [(rate, {"values": values}) for rate, values in product(OF_TABLES, VALUES)]
    else:
        grid = [(rate, {}) for rate in RATES]
    return tuple(
        arm.model_copy(
            update={
                "tuned_dim": None,
                "optimization": arm.optimization.model_copy(
                    update={"learning_rate": rate, "table_rate": 1.0, "table_rates": own}
                ),
            }
        )
        for rate, own in grid
    )


def slower(arm: Arm) -> tuple[Arm, ...]:
    """`arm` at several shares of its learning rate, which it takes as it is at any width."""
    return tuple(
        arm.model_copy(
            update={
                "tuned_dim": None,
                "optimization": arm.optimization.model_copy(
                    update={"learning_rate": round(share * arm.optimization.learning_rate, 6)}
                ),
            }
        )
        for share in SHARES
    )


def tuned(name: str, backbone: Backbone, budget: float) -> Profile:
    """Every arm of that profile of `compute_trend` at all its trials, in one model at one budget."""
    profile = TREND[name]
    return profile.model_copy(
        update={
            "arms": tuple(trial for arm in profile.arms for trial in trials(arm)),
            "backbones": (backbone,),
            "budgets_flops": (budget,),
            "ladders": {},
            "seeds": SEEDS,
        }
    )


PROFILES = {
    "smoke": tuned("smoke", TREND["smoke"].ladders[2e9][0], 2e9),
    "tiny": tuned("tiny", TREND["tiny"].ladders[3.3e10][1], 3.3e10),
    "desk": tuned("desk", NARROW, 1e11),
    "desk_wide": tuned("desk", WIDE, 5e11).model_copy(
        update={"arms": tuple(trial for arm in TUNED for trial in slower(arm))}
    ),
    "small": tuned("small", TREND["small"].backbones[0], 6e15),
    "paper": tuned("paper", TREND["paper"].backbones[0], 6e18),
}

command = training_command("tuning_trend", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
