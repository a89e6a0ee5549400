"""Figure 4: isoFLOP curves of PEER with and without batch norm over the query network.

Claim: with batch norm perplexity is lower, most near the optimum, but not by much (paper, section 3.3,
    figure 4).
Differs from the paper: ladder, experts and the lower budget are those of suite `isoflop`, whose curve of
    PEER is the one with batch norm.
Cost: tiny takes about two minutes on two cores after `isoflop`.
Run: python -m suites run query_norm_isoflop
Read: results/tables/query_norm_isoflop-tiny-optima.md and results/figures/query_norm_isoflop-tiny/.
"""

from functools import partial

from suites.paper import isoflop
from suites.paper.reference import arm
from suites.sweep import experiment
from suites.sweep.command import training_command

PROFILES = {
    name: profile.model_copy(
        update={
            "arms": (arm(name), arm(name, query_norm=None)),
            "budgets_flops": profile.budgets_flops[:1],
        }
    )
    for name, profile in isoflop.PROFILES.items()
}

command = training_command("query_norm_isoflop", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
