"""Dense, PKM and PEER at equal FLOPs and equally many parameters, so at equal memory.

Claim: none of the paper's, whose sparse layers have many times the parameters of dense. Csordás et al.
    (arXiv 2310.10837) find that PKM loses to dense when parameters match.
Differs from the paper: so few experts that the layer has as many parameters as the dense layer it
    replaces; expert choice has no such size.
Cost: tiny takes about a minute on two cores; dense is a run of `isoflop`.
Run: python -m suites run equal_parameters
Read: results/tables/equal_parameters-tiny.md.
"""

from functools import partial

from pydantic import JsonValue

from suites.analysis.comparison import Comparison
from suites.paper.reference import arm, profiles
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.tables.form import FLOPS, LAYER, Form, Matched, parameters

# Solved by hand for the widths of `reference`: router and tables against 8 · dim².
SMALL_ROUTER: dict[str, JsonValue] = {"heads": 2, "topk": 8, "dim_key": 24}
SIZES: dict[str, dict[str, dict[str, JsonValue]]] = {
    "smoke": {
        "pkm": SMALL_ROUTER | {"memories": 14**2},
        "peer": SMALL_ROUTER | {"experts": 10**2},
    },
    "tiny": {
        "pkm": SMALL_ROUTER | {"memories": 14**2},
        "peer": SMALL_ROUTER | {"experts": 10**2},
    },
    "small": {"pkm": {"memories": 54**2}, "peer": {"experts": 39**2}},
    "paper": {"pkm": {"memories": 84**2}, "peer": {"experts": 60**2}},
}

PROFILES = profiles(
    lambda profile: (
        arm(profile, "dense"),
        *(arm(profile, layer, **options) for layer, options in SIZES[profile].items()),
    )
)

FORM = Form(Comparison(LAYER, "method"), matched=(FLOPS, Matched("parameter mismatch", parameters)))
command = training_command("equal_parameters", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
