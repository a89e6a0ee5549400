"""Softmax, sigmoid and ReLU over the matches of the selected experts.

Claim: none tested by the paper, which names softmax and sigmoid (equation 2) and uses softmax.
Differs from the paper: the two other arms; tables start with the variance that makes all layers' outputs
    equally large, learning rates are those tuned with softmax.
Cost: tiny takes about a minute on two cores; one arm is a run of `isoflop`.
Run: python -m suites run scores
Read: results/tables/scores-tiny.md.
"""

from functools import partial

from suites import experiment
from suites.experiment import training_command
from suites.paper.reference import arm, profiles

PROFILES = profiles(
    lambda profile: tuple(arm(profile, scores=scores) for scores in ("softmax", "sigmoid", "relu"))
)

command = training_command("scores", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
