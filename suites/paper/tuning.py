"""The learning rates of suite `methods`, tuned with the same number of trials for each method.

Claim: none of the paper's; without it a comparison of methods is void.
Differs from the paper: it states no learning rates. Nine trials per method, each on two seeds that no
    other experiment uses: methods without tables try nine backbone rates, methods with tables three by
    three.
Cost: tiny takes about twelve minutes on two cores.
Run: python -m suites run tuning
Read: results/tables/tuning-tiny.md; `suites/paper/methods.py` takes the best mean of each method, and a
    test compares the two.
"""

from collections.abc import Mapping
from functools import partial
from itertools import product

from suites.language_model.case import Optimization
from suites.paper import methods
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.sweep.experiment import Arm, Profile

SEEDS = (1000, 1001)
WITHOUT_TABLES = (3e-3, 4e-3, 6e-3, 8e-3, 1e-2, 1.2e-2, 1.6e-2, 2e-2, 2.4e-2)
WITH_TABLES = tuple(product((5e-3, 8e-3, 1.25e-2), (1.5, 4.0, 10.0)))
WITH_A_TABLE = ("peer", "pkm", "sparsely_gated_linear", "memory_plus", "ultramem_v2")

# Larger models take smaller rates: the grid of a profile is that of tiny times this.
SCALE = {"smoke": 1.0, "tiny": 1.0, "small": 0.25, "paper": 0.1}

Grid = tuple[tuple[float, float], ...]  # learning rates of the backbone, and of its tables


def trials(arm: Arm, scale: float = 1.0, grid: Grid | None = None) -> tuple[Arm, ...]:
    """`arm` at every rate of its grid; a method without tables has nothing to try a table rate on."""
    if grid is None:
        has_tables = arm.layer in WITH_A_TABLE
        grid = WITH_TABLES if has_tables else tuple((rate, 1.0) for rate in WITHOUT_TABLES)
    return tuple(
        arm.model_copy(
            update={
                "optimization": Optimization(learning_rate=scale * rate, table_rate=scale * table)
            }
        )
        for rate, table in grid
    )


def tuned(profile: Profile, scale: float, grids: Mapping[str, Grid] = {}) -> Profile:
    """`profile` at the rates of `grids`, by layer, or of the one for layers such as that."""
    arms = tuple(
        trial for arm in profile.arms for trial in trials(arm, scale, grids.get(arm.layer))
    )
    return profile.model_copy(update={"arms": arms, "seeds": SEEDS})


PROFILES = {name: tuned(profile, SCALE[name]) for name, profile in methods.PROFILES.items()}

command = training_command("tuning", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
