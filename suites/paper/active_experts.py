"""Figure 3b: loss against heads h, for several numbers of active experts hk.

Claim: more active experts hk lower perplexity, and the best h grows with hk (paper, section 3.3,
    figure 3b).
Differs from the paper: profile tiny has hk = 32, 64, 128 split over 2 to 16 heads, small every fourth
    power of two, paper all splits. Each head has a query network, so more heads see fewer tokens for
    the same FLOPs; the paper does not say whether it counts them.
Cost: tiny takes about four minutes on two cores.
Run: python -m suites run active_experts
Read: results/figures/active_experts-tiny/active_experts.svg, one line per hk, and the table
    results/tables/active_experts-tiny.md.
"""

from functools import partial

from suites.analysis.comparison import Comparison
from suites.paper.reference import arm, profiles
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.tables.form import Form

# hk → h; k = hk / h is at most √N
SPLITS: dict[str, dict[int, tuple[int, ...]]] = {
    "smoke": {4: (1, 2), 8: (1, 2)},
    "tiny": dict.fromkeys((32, 64, 128), (2, 4, 8, 16)),
    "small": {32: (1, 4, 16), 128: (1, 4, 16, 64), 512: (1, 4, 16, 64, 256)},
    "paper": {
        active: tuple(2**power for power in range(active.bit_length()))
        for active in (32, 64, 128, 256, 512)
    },
}

PROFILES = profiles(
    lambda profile: tuple(
        arm(profile, heads=heads, topk=active // heads)
        for active, splits in SPLITS[profile].items()
        for heads in splits
    )
)

FORM = Form(
    Comparison(
        {"hk": ("options.heads", "options.topk"), "h": "options.heads"}, "hk", within=("h",)
    ),
    notes=("the paper shows hk from 32 to 512 at 1024² experts, as a picture only",),
)
command = training_command("active_experts", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
