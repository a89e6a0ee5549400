"""How far each layer's predictions depend on tokens they must not see.

Claim: none of the paper's, which does not mention it; a model that sees the future in training or in
    evaluation reports a perplexity that generation cannot reach.
Differs from the paper: query batch norm takes statistics over the batch in training and fixed ones in
    evaluation; expert choice picks among the tokens of the batch in both.
Cost: tiny takes half a minute on two cores; all but one arm are runs of `isoflop` and `query_norm`.
Run: python -m suites run causality
Read: results/tables/causality-tiny.md; a leak of 0 is exact, the same bits.
"""

from functools import partial

from suites.analysis.comparison import Comparison
from suites.paper.reference import arm, profiles
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.tables.form import LAYER, LEAKS, NORM, Form

PROFILES = profiles(
    lambda profile: (
        *(arm(profile, layer) for layer in ("dense", "expert_choice", "topk_moe", "pkm")),
        *(arm(profile, query_norm=norm) for norm in ("batch", "layer", None)),
    )
)

FORM = Form(
    Comparison(LAYER | NORM, "method"),
    more=LEAKS,
    notes=(
        "leak: mean KL divergence between predictions before and after other tokens are replaced",
        "future: those of the second half of a sequence; batch: those of the other sequences",
        "0 is exact",
    ),
)
command = training_command("causality", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
