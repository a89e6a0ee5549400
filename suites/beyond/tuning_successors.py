"""The learning rates of the successors, tuned as those of suite `methods`: nine trials, two seeds.

Claim: none; without it their comparison rests on borrowed rates.
Differs from `tuning`: only the four layers that suite `successors` adds, each in its first arm; those with
    tables at rates around the best trials of `tuning`'s grid, which lay on its edges.
Cost: tiny takes about a quarter of an hour on two cores.
Run: python -m suites run tuning_successors
Read: results/tables/tuning_successors-tiny.md.
"""

from functools import partial
from itertools import product

from suites.beyond import successors
from suites.paper.tuning import SCALE, Grid, tuned
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.sweep.experiment import Arm, Profile

TABLE_RATES = (0.6, 1.5, 4.0)
GRIDS: dict[str, Grid] = {
    "memory_plus": tuple(product((3e-3, 5e-3, 8e-3), TABLE_RATES)),
    "sparsely_gated_linear": tuple(product((5e-3, 8e-3, 1.25e-2), TABLE_RATES)),
    "ultramem_v2": tuple(product((8e-3, 1.25e-2, 2e-2), TABLE_RATES)),
}


def first_arms(profile: Profile) -> tuple[Arm, ...]:
    first = {arm.layer: arm for arm in reversed(profile.arms) if arm.layer in successors.LENDER}
    return tuple(first[layer] for layer in successors.LENDER)


PROFILES = {
    name: tuned(profile.model_copy(update={"arms": first_arms(profile)}), SCALE[name], GRIDS)
    for name, profile in successors.PROFILES.items()
}

command = training_command("tuning_successors", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
