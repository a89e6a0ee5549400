"""The methods that came after PEER beside it: equal training FLOPs, equally many parameters in all.

Claim: those of the successors' papers (`suites.beyond.claims`): sparsely gated linear experts are at or
    below PEER, Memory+ below PEER, UltraMemV2 level with a fine-grained mixture of experts.
Differs from the papers: one backbone, every sparse model with as many parameters as that with PEER (dense
    has its own), where the papers compare pools of 4 : 1 and more. One layer is sparse, but Memory+ with
    three sites and UltraMemV2 in every block are so by definition. Rates are
    those that suite `tuning_successors` found at profile tiny, sgatlin's for all its switches, and three of
    the four lie on an edge of their grids; at small and paper they are borrowed from top-k MoE, PKM, PEER.
Cost: tiny takes some ten minutes on two idle cores; five arms are runs of `methods`.
Run: python -m suites run successors
Read: results/tables/successors-tiny.md; -claims.md for the verdicts, -laws.md for what scaling laws predict.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from pydantic import JsonValue

from suites.analysis.comparison import Comparison
from suites.language_model.case import Optimization
from suites.paper import methods
from suites.records.record import ResultFile
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.sweep.experiment import Arm, Profile
from suites.tables.form import FLOPS, Form, Matched, sparse_parameters

if TYPE_CHECKING:
    from suites.tables.sheet import Sheet

Options = dict[str, JsonValue]
SWITCHES: tuple[Options, ...] = (
    {"activation": "gelu"},
    {"scores": "softmax"},
    {"shared_query": False},
    {"shared_pool": True},
)
# What suite `tuning_successors` found at profile tiny.
TUNED = {
    "fine_grained_moe": Optimization(learning_rate=8e-3),
    "sparsely_gated_linear": Optimization(learning_rate=8e-3, table_rate=1.5),
    "memory_plus": Optimization(learning_rate=5e-3, table_rate=1.5),
    "ultramem_v2": Optimization(learning_rate=1.25e-2, table_rate=1.5),
}
# Whose rates a successor borrows at the other profiles.
LENDER = {
    "fine_grained_moe": "topk_moe",
    "memory_plus": "pkm",
    "sparsely_gated_linear": "peer",
    "ultramem_v2": "peer",
}

# Solved by hand for as many parameters as the model with PEER has, within 2 %. sgatlin's experts are of one
# pool: with a pool per head as many in all as PEER's, with one pool the number beside "shared_pool".
SIZES: dict[str, dict[str, Options]] = {
    "smoke": {
        "dense": {},
        "expert_choice": {"experts": 8, "hidden": 136},
        "topk_moe": {"experts": 16},
        "pkm": {"memories": 45**2, "dim_key": 8},
        "peer": {"experts": 32**2, "dim_key": 8},
        "fine_grained_moe": {"experts": 43, "hidden": 16},
        "sparsely_gated_linear": {"experts": 16**2, "heads": 4, "topk": 8, "dim_key": 8},
        "memory_plus": {"memories": 44**2, "topk": 8},
        "ultramem_v2": {"experts": 29**2, "topk": 8, "hidden": 96},
    },
    "tiny": {
        "dense": {},
        "expert_choice": {"experts": 64},
        "topk_moe": {},
        "pkm": {"memories": 179**2, "dim_key": 32},
        "peer": {"experts": 128**2, "dim_key": 32},
        "fine_grained_moe": {"experts": 248, "hidden": 44},
        "sparsely_gated_linear": {"experts": 32**2, "dim_key": 32},
        "memory_plus": {"memories": 180**2},
        "ultramem_v2": {"experts": 89**2, "topk": 16, "hidden": 160},
    },
    "small": {
        "dense": {},
        "expert_choice": {"experts": 512},
        "topk_moe": {"experts": 1024},
        "pkm": {"memories": 1447**2},
        "peer": {"experts": 1024**2},
        "fine_grained_moe": {"experts": 1364, "hidden": 512},
        "sparsely_gated_linear": {"experts": 256**2},
        "memory_plus": {"memories": 1447**2},
        "ultramem_v2": {"experts": 510**2, "hidden": 1792},
    },
    "paper": {
        "dense": {},
        "expert_choice": {"experts": 256},
        "topk_moe": {"experts": 512},
        "pkm": {"memories": 1448**2},
        "peer": {"experts": 1024**2},
        "fine_grained_moe": {"experts": 1364, "hidden": 512},
        "sparsely_gated_linear": {"experts": 256**2},
        "memory_plus": {"memories": 1446**2},
        "ultramem_v2": {"experts": 358**2, "hidden": 3584},
    },
}
ONE_POOL = {"smoke": 32**2, "tiny": 127**2, "small": 1023**2, "paper": 1024**2}
THREE_SITES = {"smoke": (0, 1), "tiny": (1, 2, 3), "small": (2, 4, 6), "paper": (4, 8, 12)}


def arms(profile: str) -> tuple[Arm, ...]:
    """The nine methods, Memory+ at several sites, and sgatlin with one switch at a time set as PEER's."""
    given = methods.PROFILES[profile]
    rates = {arm.layer: arm.optimization for arm in given.arms}
    blocks = given.backbones[0].blocks

    def arm(layer: str, changes: Options, sites: tuple[int, ...] | None = None) -> Arm:
        options = SIZES[profile][layer] | changes
        own = TUNED if profile in ("smoke", "tiny") else {}
        optimization = own.get(layer) or rates[LENDER.get(layer, layer)]
        return Arm(layer=layer, options=options, sites=sites, optimization=optimization)

    everywhere = {"ultramem_v2": tuple(range(blocks))}
    found = [arm(layer, {}, everywhere.get(layer)) for layer in SIZES[profile]]
    found.append(arm("memory_plus", {}, THREE_SITES[profile]))
    for switch in SWITCHES:
        pool: Options = {"experts": ONE_POOL[profile]} if "shared_pool" in switch else {}
        found.append(arm("sparsely_gated_linear", switch | pool))
    return tuple(found)


PROFILES: dict[str, Profile] = {
    name: profile.model_copy(update={"arms": arms(name)})
    for name, profile in methods.PROFILES.items()
}

FORM = Form(
    Comparison(
        {
            "method": "layer",
            "blocks": "sites",
            "activation": "options.activation",
            "scores": "options.scores",
            "one query": "options.shared_query",
            "one pool": "options.shared_pool",
        },
        "method",
    ),
    more={"tokens_per_s": ("tokens/s", ",.0f")},
    matched=(FLOPS, Matched("parameter mismatch", sparse_parameters)),
    notes=("parameter mismatch: against PEER's model; dense has no tables to hold as many",),
    measured=("tokens/s",),
)


def verdicts(files: Sequence[ResultFile]) -> "Sheet":
    """What the successors' papers claim, judged on `files`, which are of one profile."""
    from suites.beyond.claims import CLAIMS, NOTE
    from suites.paper import claims

    judged = claims.sheet(
        files[0].profile,
        {"successors": files},
        chosen=CLAIMS,
        title="Published claims about the successors",
        note=NOTE,
    )
    return judged.model_copy(update={"name": "claims"})


command = training_command("successors", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
