"""The learning rates of Figure 1 and of all ablations, tuned as those of suite `methods` are.

Claim: none of the paper's; without it a comparison of methods is void.
Differs from the paper: it states no learning rates. The trials are those of suite `tuning`, in the
    model that the ablations share; the other sizes of the ladder take its rates.
Cost: tiny takes about six minutes on two cores.
Run: python -m suites run tuning_isoflop
Read: results/tables/tuning_isoflop-tiny.md; `suites/paper/isoflop.py` takes the best mean of each
    method, and a test compares the two.
"""

from functools import partial

from suites.paper import isoflop, reference
from suites.paper.tuning import SCALE, tuned
from suites.sweep import experiment
from suites.sweep.command import training_command

POINT = reference.profiles(lambda profile: isoflop.PROFILES[profile].arms)
PROFILES = {name: tuned(profile, SCALE[name]) for name, profile in POINT.items()}

command = training_command("tuning_isoflop", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
