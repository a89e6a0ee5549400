"""Table 1: the compute-optimal model of each method on five texts.

Claim: PEER's compute-optimal model has the lowest perplexity on Curation Corpus, Lambada, the Pile,
    Wikitext and C4 at both budgets (paper, table 1).
Differs from the paper: the runs are those of suite `isoflop`, with its differences, and the model is
    the rung of the ladder nearest to the fitted optimum. What is done to each text, which the paper
    does not say, stands in suites/text/evaluations.py. The Pile is without its copyrighted
    parts; of Curation, titles and summaries. Bits per byte compare across tokenizers, perplexity
    does not.
Cost: that of `isoflop`, and one pass over each set per run; tiny takes about ten minutes on two cores.
Run: python -m suites run table1 --evaluation wikitext --evaluation c4=c4-validation.jsonl …
Read: results/tables/table1-tiny-perplexity.md, the paper's numbers beside ours; a set that was not
    given or cannot be had is a gap that is named.
"""

from functools import partial

from suites.paper import isoflop
from suites.sweep import experiment
from suites.sweep.command import training_command

PROFILES = isoflop.PROFILES

command = training_command("table1", __doc__, PROFILES)
planned = partial(experiment.planned, PROFILES)
