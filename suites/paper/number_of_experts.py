"""Figure 3a: loss against the total number of experts, with as many active ones.

Claim: more experts, lower perplexity, N from 128² to 1024² at hk = 128 (paper, section 3.3, figure 3a).
Differs from the paper: profile tiny goes from 32² to 256², in the model and at the budget of one point
    of suite `isoflop`. The budget pays for longer sub-key tables too, so more experts see fewer tokens.
Cost: tiny takes about two minutes on two cores; one of its four points is a run of `isoflop`.
Run: python -m suites run number_of_experts
Read: results/tables/number_of_experts-tiny.md and results/figures/number_of_experts-tiny/; the paper's
    values of Table 2 stand beside ours where N is the same.
"""

from functools import partial

from suites.analysis.comparison import Comparison
from suites.paper.reference import arm, profiles
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.tables.form import EXPERTS, PAPER, USAGE, Form

# √N, each the double of the one before as in the paper
ROOTS = {
    "smoke": (16, 32),
    "tiny": (32, 64, 128, 256),
    "small": (128, 256, 512, 1024),
    "paper": (128, 256, 512, 1024),
}

PROFILES = profiles(lambda profile: tuple(arm(profile, experts=root**2) for root in ROOTS[profile]))

FORM = Form(Comparison(EXPERTS, "N"), more=USAGE, published=True, notes=PAPER)
command = training_command("number_of_experts", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
