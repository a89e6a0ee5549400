"""One set of sub-keys for all heads, or one per head.

Claim: none tested by the paper, whose heads share experts and sub-keys; code for PKM and most public code
    for PEER has sub-keys per head.
Differs from the paper: the second arm.
Cost: tiny takes about half a minute on two cores; one arm is a run of `isoflop`.
Run: python -m suites run keys
Read: results/tables/keys-tiny.md; both spend the same FLOPs per token.
"""

from functools import partial

from suites.analysis.comparison import Comparison
from suites.paper.reference import arm, profiles
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.tables.form import USAGE, Form

PROFILES = profiles(
    lambda profile: tuple(arm(profile, shared_keys=shared) for shared in (True, False))
)

FORM = Form(Comparison({"keys shared": "options.shared_keys"}, "keys shared"), more=USAGE)
command = training_command("keys", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
