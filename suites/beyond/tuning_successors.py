"""The learning rates of the successors, tuned as those of suite `methods`: nine trials, two seeds.

Claim: none; without it their comparison rests on borrowed rates.
Differs from `tuning`: only the four layers that suite `successors` adds, each in its first arm.
Cost: tiny takes about a quarter of an hour on two cores.
Run: python -m suites run tuning_successors
Read: results/tables/tuning_successors-tiny.md.
"""

from functools import partial

from suites.beyond import successors
from suites.paper.tuning import SCALE, tuned
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.sweep.experiment import Arm, Profile


def first_arms(profile: Profile) -> tuple[Arm, ...]:
    first = {arm.layer: arm for arm in reversed(profile.arms) if arm.layer in successors.LENDER}
    return tuple(first[layer] for layer in successors.LENDER)


PROFILES = {
    name: tuned(profile.model_copy(update={"arms": first_arms(profile)}), SCALE[name])
    for name, profile in successors.PROFILES.items()
}

command = training_command("tuning_successors", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
