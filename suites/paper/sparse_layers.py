"""One sparse layer in the middle, or several with as many experts between them.

Claim: none of the paper's, which replaces the feed-forward layer of the middle block alone.
Differs from the paper: the second arm spreads the experts over two blocks (tiny) or four, at the same
    budget; parameters agree within a few percent.
Cost: tiny takes about half a minute on two cores; one arm is a run of `isoflop`.
Run: python -m suites run sparse_layers
Read: results/tables/sparse_layers-tiny.md.
"""

from functools import partial

from suites.analysis.comparison import Comparison
from suites.paper.reference import arm, profiles
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.sweep.experiment import Arm
from suites.tables.form import USAGE, Form

# blocks that hold a layer, and √N of each
SPREAD = {
    "smoke": ((0, 1), 23),
    "tiny": ((0, 1), 45),
    "small": ((1, 3, 5, 7), 512),
    "paper": ((3, 7, 11, 15), 512),
}


def spread(profile: str) -> Arm:
    sites, root = SPREAD[profile]
    return arm(profile, experts=root**2).model_copy(update={"sites": sites})


PROFILES = profiles(lambda profile: (arm(profile), spread(profile)))

FORM = Form(Comparison({"blocks": "sites"}, "blocks"), more=USAGE)
command = training_command("sparse_layers", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
