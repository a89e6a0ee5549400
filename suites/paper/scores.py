"""Softmax, sigmoid and ReLU over the matches of the selected experts.

Claim: none tested by the paper, which names softmax and sigmoid (equation 2) and uses softmax.
Differs from the paper: the two other arms; tables start with the variance that makes all layers' outputs
    equally large, learning rates are those tuned with softmax.
Cost: tiny takes about a minute on two cores; one arm is a run of `isoflop`.
Run: python -m suites run scores
Read: results/tables/scores-tiny.md.
"""

from functools import partial

from suites.analysis.comparison import Comparison
from suites.paper.reference import arm, profiles
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.tables.form import USAGE, Form

PROFILES = profiles(
    lambda profile: tuple(arm(profile, scores=scores) for scores in ("softmax", "sigmoid", "relu"))
)

FORM = Form(Comparison({"scores": "options.scores"}, "scores"), more=USAGE)
command = training_command("scores", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
