"""Expert usage and unevenness over training, of PKM and of PEER with and without query batch norm.

Claim: none of the paper's, which shows the end of training alone (table 2).
Differs from the paper: its layers at the upper budget of suite `isoflop`. The model is looked at before
    the first step and after 1/64, 1/32, … of them, each time on one batch of validation.
Cost: tiny takes a minute on two cores; all but one arm are runs of `isoflop`.
Run: python -m suites run usage
Read: results/figures/usage-tiny/usage.svg; usage of one batch lies below that of the whole validation
    text, which results/tables/usage-tiny.md has for the end.
"""

from functools import partial

from suites.analysis.comparison import Comparison
from suites.paper import isoflop
from suites.paper.reference import arm, profiles
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.tables.form import LAYER, NORM, USAGE, Form

PROFILES = {
    name: profile.model_copy(update={"budgets_flops": isoflop.PROFILES[name].budgets_flops[-1:]})
    for name, profile in profiles(
        lambda profile: (arm(profile, "pkm"), arm(profile), arm(profile, query_norm=None))
    ).items()
}

FORM = Form(Comparison(LAYER | NORM, "method"), more=USAGE)
command = training_command("usage", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
