"""PEER with its router counted in the budget, and with a router that costs nothing.

Claim: none of the paper's, which does not say whether it counts the router's FLOPs.
Differs from the paper: both are shown. Without the router's FLOPs the same budget buys more tokens.
Cost: tiny takes about two minutes on two cores; all but one arm are runs of `isoflop`.
Run: python -m suites run router_flops
Read: results/tables/router_flops-tiny.md; the gap between the rows of PEER is what the choice is worth.
"""

from functools import partial

from suites.analysis.comparison import Comparison
from suites.paper.reference import arm, profiles
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.tables.form import LAYER, Form

# Forward FLOPs per token of the whole decoder over the same without queries and sub-keys; a test
# compares them with the closed forms.
WITHOUT_ROUTER = {"smoke": 1.1803, "tiny": 1.4848, "small": 1.0244, "paper": 1.0064}

PROFILES = profiles(
    lambda profile: (
        arm(profile, "dense"),
        arm(profile),
        arm(profile).model_copy(update={"budget_factor": WITHOUT_ROUTER[profile]}),
    )
)

FORM = Form(
    Comparison(LAYER | {"budget": "budget_flops"}, "method"),
    notes=("the larger budget is the smaller one once the router's FLOPs are not counted",),
)
command = training_command("router_flops", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
