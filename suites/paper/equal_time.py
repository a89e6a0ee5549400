"""Dense, expert-choice MoE, PKM and PEER at equal training time instead of equal FLOPs.

Claim: none of the paper's, which compares at equal FLOPs and states no times.
Differs from the paper: everything but the layers. The budget of each method is that of dense times its
    speed in FLOP/s over dense's, as one machine measured it, so training takes equally long there; the
    table says how closely it did. Speeds were measured for profile tiny; elsewhere budgets are equal
    until they are, and the table says how far times lie apart.
Cost: tiny takes about a minute on two cores; dense is a run of `isoflop`.
Run: python -m suites run equal_time
Read: results/tables/equal_time-tiny.md; its column of seconds is a measurement, all others repeat.
"""

from functools import partial

from suites.analysis.comparison import Comparison
from suites.paper.reference import arm, profiles
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.tables.form import FLOPS, LAYER, SECONDS, Form, Matched, seconds

# Training FLOP/s over dense's in the model of `reference`; of tiny on two CPU cores, one run on each.
UNMEASURED = dict.fromkeys(("dense", "expert_choice", "pkm", "peer"), 1.0)
SPEED = {
    "smoke": UNMEASURED,
    "tiny": {"dense": 1.0, "expert_choice": 0.72, "pkm": 0.39, "peer": 0.49},
    "small": UNMEASURED,
    "paper": UNMEASURED,
}

PROFILES = profiles(
    lambda profile: tuple(
        arm(profile, layer).model_copy(update={"budget_factor": speed})
        for layer, speed in SPEED[profile].items()
    )
)

FORM = Form(
    Comparison(LAYER, "method"),
    matched=(FLOPS, Matched(SECONDS, seconds)),
    measured=(SECONDS,),
    notes=(
        "budgets per method are chosen so that training takes equally long",
        "the column of seconds is measured and differs between repetitions",
    ),
)
command = training_command("equal_time", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
