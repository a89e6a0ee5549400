"""The one PEER model that all ablations vary: the third rung of Figure 1's ladder at one of its budgets.

It is a run of `isoflop`, so every experiment shares it.
"""

from collections.abc import Callable

from pydantic import JsonValue

from suites.paper import isoflop
from suites.sweep.experiment import Arm, Profile

RUNG = 2
# Which budget: at the larger scales the lower one; at smoke and tiny it buys too few steps to tell.
BUDGET = {"smoke": 1, "tiny": 1, "small": 0, "paper": 0}


def profiles(arms: Callable[[str], tuple[Arm, ...]]) -> dict[str, Profile]:
    """Figure 1's profiles on that rung and budget, with the `arms` of each."""
    return {
        name: profile.model_copy(
            update={
                "arms": arms(name),
                "backbones": profile.backbones[RUNG : RUNG + 1],
                "budgets_flops": (profile.budgets_flops[BUDGET[name]],),
            }
        )
        for name, profile in isoflop.PROFILES.items()
    }


def arm(profile: str, layer: str = "peer", **options: JsonValue) -> Arm:
    """Figure 1's arm of `layer`, with some options of its own."""
    (found,) = (arm for arm in isoflop.PROFILES[profile].arms if arm.layer == layer)
    return found.model_copy(update={"options": found.options | options})
