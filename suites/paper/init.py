"""Expert tables that start with the dense layer's output variance, or as N(0, 1).

Claim: none of the paper's, which does not state its initialisation.
Differs from the paper: `matched` is our choice; `unit` is what public code has, under which hidden
    neurons start far in the saturated ranges of GELU.
Cost: tiny takes about half a minute on two cores; one arm is a run of `isoflop`.
Run: python -m suites run init
Read: results/tables/init-tiny.md; learning rates are those tuned with `matched`.
"""

from functools import partial

from suites.analysis.comparison import Comparison
from suites.paper.reference import arm, profiles
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.tables.form import USAGE, Form

PROFILES = profiles(lambda profile: tuple(arm(profile, init=init) for init in ("matched", "unit")))

FORM = Form(Comparison({"init": "options.init"}, "init"), more=USAGE)
command = training_command("init", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
