"""Table 2: batch norm over the query network on and off: loss, expert usage and unevenness against N.

Claim: query batch norm makes the use of experts more even and does not raise perplexity; nearly all
    experts are used either way (paper, section 3.3, table 2).
Differs from the paper: the numbers of experts and the model are those of suite `number_of_experts`,
    whose points are the half with batch norm. Usage and unevenness depend on the number of validation
    tokens, which the paper does not state and the table does.
Cost: tiny takes about two minutes on two cores after `number_of_experts`.
Run: python -m suites run query_norm
Read: results/tables/query_norm-tiny.md, the paper's values beside ours where N is the same. Usage
    collapses early in training and recovers: suite `usage` shows how far a short run has come.
"""

from functools import partial

from suites.analysis.comparison import Comparison
from suites.paper.number_of_experts import ROOTS
from suites.paper.reference import arm, profiles
from suites.sweep import experiment
from suites.sweep.command import training_command
from suites.tables.form import EXPERTS, NORM, PAPER, USAGE, Form

PROFILES = profiles(
    lambda profile: tuple(
        arm(profile, experts=root**2, query_norm=norm)
        for root in ROOTS[profile]
        for norm in (None, "batch")
    )
)

FORM = Form(
    Comparison(EXPERTS | NORM, "query norm", within=("N",)), more=USAGE, published=True, notes=PAPER
)
command = training_command("query_norm", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
