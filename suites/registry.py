"""The suites by name. Each module offers `PROFILES`, a docstring, and `command`, its `run` verb."""

import importlib
from types import ModuleType

from suites.errors import UserError

SUITES = {
    "methods": "suites.paper.methods",
    "isoflop": "suites.paper.isoflop",
    "table1": "suites.paper.table1",
    "number_of_experts": "suites.paper.number_of_experts",
    "active_experts": "suites.paper.active_experts",
    "query_norm": "suites.paper.query_norm",
    "query_norm_isoflop": "suites.paper.query_norm_isoflop",
    "equal_time": "suites.paper.equal_time",
    "equal_parameters": "suites.paper.equal_parameters",
    "router_flops": "suites.paper.router_flops",
    "keys": "suites.paper.keys",
    "scores": "suites.paper.scores",
    "init": "suites.paper.init",
    "sparse_layers": "suites.paper.sparse_layers",
    "usage": "suites.paper.usage",
    "causality": "suites.paper.causality",
    "speed": "suites.speed.everything",
    "layer_speed": "suites.speed.layer_speed",
    "decode_speed": "suites.speed.decode_speed",
    "retrieval_speed": "suites.speed.retrieval_speed",
    "experts_speed": "suites.speed.experts_speed",
    "model_speed": "suites.speed.model_speed",
    "tuning": "suites.paper.tuning",
    "tuning_isoflop": "suites.paper.tuning_isoflop",
    "flops": "suites.budgets.flops",
}


def load(suite: str) -> ModuleType:
    """The module of `suite`; raises UserError for an unknown name."""
    if suite not in SUITES:
        raise UserError(f"unknown suite {suite!r}; there are {', '.join(SUITES)}")
    return importlib.import_module(SUITES[suite])
