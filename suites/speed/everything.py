"""All speed suites in one run: layer_speed, decode_speed, retrieval_speed, experts_speed, model_speed.

Claim: none of the paper's; it states no times.
Differs from the paper: see each suite.
Cost: tiny takes about six minutes on two cores; small about fifteen on one datacenter GPU.
Run: python -m suites run speed
Read: one table per suite; -k takes cells of all of them.
"""

from functools import partial

from suites.registry import SPEED_SUITES, load
from suites.speed.cells.case import Cell
from suites.speed.cells.grid import Profiles
from suites.speed.harness.command import speed_command


def profile(name: str) -> tuple[Cell, ...]:
    return tuple(cell for suite in SPEED_SUITES for cell in load(suite).PROFILES[name])


PROFILES = Profiles(tiny=partial(profile, "tiny"), small=partial(profile, "small"))
command = speed_command("speed", __doc__, PROFILES)
