"""The suites by name: where each is, what prints its records and what draws them.

Each module offers `PROFILES`, a docstring, `command`, its `run` verb, and `planned`, the case ids of
a complete run. A module whose table is `arms.sheets` offers `FORM` too.
"""

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from suites.errors import UserError

P = TypeVar("P")


class Suite(NamedTuple):
    """Names, so that listing suites imports none of them, nor torch."""

    module: str  # of `suites`
    sheets: str | None = None  # a function of `suites.tables`, None: it has no records of its own
    figures: str | None = None  # a function of `suites.figures`


SUITES = {
    "methods": Suite("paper.methods", "training.sheets"),
    "isoflop": Suite("paper.isoflop", "isoflop.sheets", "isoflop.figures"),
    "compute_trend": Suite("paper.compute_trend", "trend.sheets", "trend.figures"),
    "table1": Suite("paper.table1", "table1.sheets"),
    "number_of_experts": Suite("paper.number_of_experts", "arms.sheets", "arms.over_experts"),
    "active_experts": Suite("paper.active_experts", "arms.sheets", "arms.over_heads"),
    "query_norm": Suite("paper.query_norm", "arms.sheets", "arms.pairs"),
    "query_norm_isoflop": Suite("paper.query_norm_isoflop", "isoflop.sheets", "isoflop.figures"),
    "equal_time": Suite("paper.equal_time", "arms.sheets", "arms.intervals"),
    "equal_parameters": Suite("paper.equal_parameters", "arms.sheets", "arms.intervals"),
    "router_flops": Suite("paper.router_flops", "arms.sheets", "arms.intervals"),
    "keys": Suite("paper.keys", "arms.sheets", "arms.intervals"),
    "scores": Suite("paper.scores", "arms.sheets", "arms.intervals"),
    "init": Suite("paper.init", "arms.sheets", "arms.intervals"),
    "sparse_layers": Suite("paper.sparse_layers", "arms.sheets", "arms.intervals"),
    "usage": Suite("paper.usage", "arms.sheets", "arms.over_training"),
    "causality": Suite("paper.causality", "arms.sheets"),
    "successors": Suite("beyond.successors", "successors.sheets", "arms.intervals"),
    "tuning_successors": Suite("beyond.tuning_successors", "training.sheets"),
    "speed": Suite("speed.everything"),
    "layer_speed": Suite("speed.layer_speed", "speed.sheets", "speed.figures"),
    "decode_speed": Suite("speed.decode_speed", "speed.sheets", "speed.figures"),
    "retrieval_speed": Suite("speed.retrieval_speed", "speed.sheets", "speed.figures"),
    "experts_speed": Suite("speed.experts_speed", "speed.sheets", "speed.figures"),
    "model_speed": Suite("speed.model_speed", "speed.sheets", "speed.figures"),
    "tuning": Suite("paper.tuning", "training.sheets"),
    "tuning_isoflop": Suite("paper.tuning_isoflop", "training.sheets"),
    "tuning_trend": Suite("paper.tuning_trend", "training.sheets"),
    "kernels": Suite("binary.kernels", "kernels.sheets"),
    "flops": Suite("budgets.flops", "flops.sheets", "flops.figures"),
}
PAPER_SUITES = tuple(name for name, suite in SUITES.items() if suite.module.startswith("paper."))
SPEED_SUITES = tuple(name for name, suite in SUITES.items() if suite.sheets == "speed.sheets")


def load(suite: str) -> ModuleType:
    """The module of `suite`; raises UserError for an unknown name."""
    if suite not in SUITES:
        near = get_close_matches(suite, SUITES, 1, cutoff=0.75)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"unknown suite {suite!r}{meant}; there are {', '.join(SUITES)}")
    return importlib.import_module(f"suites.{SUITES[suite].module}")


def named(room: str, function: str) -> Any:
    """`function`, as a line of the registry names it, of the package `suites.ROOM`."""
    module, _, name = function.rpartition(".")
    return getattr(importlib.import_module(f"suites.{room}.{module}"), name)


def profile_of(suite: str, profiles: Mapping[str, P], name: str) -> P:
    """Profile `name` of `suite`; raises UserError where it has none of that name."""
    if name not in profiles:
        raise UserError(f"{suite} has no profile {name!r}; it has {', '.join(profiles)}")
    return profiles[name]
