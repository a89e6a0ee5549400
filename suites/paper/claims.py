"""The paper's testable sentences, each with the comparison that tests it and what our records say.

Differences are paired by seed, so by data order; the interval is Student's, 95 %. The effect is the
paper's, in the same unit, and never ours. Wins and losses stand in the order of the paper.
"""

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import pandas as pd

from suites.analysis.judgement import Interval, Judgement, Kind, interval, judge, verdicts
from suites.analysis.statistics import LOSS_TOLERANCE_NATS
from suites.paper.effects import (
    gap,
    gap_to_best,
    published,
    published_norm,
    published_norm_nats,
    published_usage,
)
from suites.paper.evidence import (
    USED_PERCENT,
    Evidence,
    at_optimum,
    best_heads,
    extrapolated,
    in_one_model,
    lowest_on,
    more_active,
    more_active_parameters,
    norm_at_optimum,
    per_quadrupling,
    unused,
    with_norm,
)
from suites.records.record import ResultFile
from suites.tables.sentences import several
from suites.tables.sheet import Sheet
from suites.tables.table1 import SETS
from suites.tables.whole import whole

NATS = "nats/token"
NOT_RUN = "not run"
NOT_TESTABLE = "not testable at this scale"
REACH = 100.0  # a claim on one budget is tested at no less than this part of it


@dataclass(frozen=True)
class Claim:
    """That the differences which `evidence` finds in a file of `suite` are below 0, or the same."""

    sentence: str
    source: str
    suite: str
    comparison: str
    evidence: Callable[..., Evidence]
    effect: float | None = None
    kind: Kind = "below"
    unit: str = NATS
    tolerance: float = LOSS_TOLERANCE_NATS
    at_flops: float | None = None  # the budget that the sentence speaks of
    pooled: bool = False  # `evidence` takes all records together: budgets are published one by one

    def judged(self, *files: ResultFile) -> Judgement:
        if not files:
            return Judgement(None, NOT_RUN)
        with whole(files):
            found = self.evidence(files if self.pooled else files[0])
        if isinstance(found, str):
            return Judgement(None, f"undecided ({found})")
        if not found:
            return Judgement(None, NOT_RUN)
        seen = found if isinstance(found, Interval) else interval(found)
        judged = judge(seen, self.kind, self.effect, self.tolerance)
        budgets = [float(str(r.case["budget_flops"])) for file in files for r in file.records]
        ours = max(budgets)
        if self.at_flops is None or ours * REACH >= self.at_flops:
            return judged
        far = f"{ours:.1e} FLOPs; {self.at_flops:.0e} in the paper"
        if self.pooled:
            span, ahead = (math.log10(high / low) for low, high in
                           ((min(budgets), ours), (ours, self.at_flops)))  # fmt: skip
            if ahead <= span:
                otherwise = f"{NOT_TESTABLE} (the trend's interval holds both)"
                return replace(judged, otherwise=otherwise)
            far = f"a line through {span:.1f} decades, {ahead:.1f} further on"
        return Judgement(seen, f"{NOT_TESTABLE} ({far})")


BUDGETS = (6e18, 2e19)
RANKS = ("lower", "upper")
NAMES = {"dense": "dense", "expert_choice": "MoE", "pkm": "PKM", "peer": "PEER"}


def isoflop_claims() -> Iterable[Claim]:
    pairs = [("peer", "dense"), ("peer", "expert_choice"), ("peer", "pkm")]
    pairs += [("expert_choice", "dense"), ("pkm", "dense")]
    for rank, (one, other) in product(range(len(BUDGETS)), pairs):
        yield Claim(
            sentence=f"{NAMES[one]} has a lower compute-optimal perplexity than {NAMES[other]}, "
            f"{RANKS[rank]} budget",
            source=f"figure 1, table 1 at {BUDGETS[rank]:.0e}",
            suite="isoflop",
            comparison=f"{one} − {other} at the optimum of each",
            evidence=at_optimum(one, other, rank),
            effect=gap(one, other, rank),
            at_flops=BUDGETS[rank],
        )


def trend_claims() -> Iterable[Claim]:
    for rank, other in product(range(len(BUDGETS)), ("dense", "expert_choice", "pkm")):
        yield Claim(
            sentence=f"PEER's compute-optimal loss heads below {NAMES[other]}'s, {RANKS[rank]} budget",
            source=f"figure 1 at {BUDGETS[rank]:.0e}",
            suite="compute_trend",
            comparison=f"peer − {other} at the optimum of each, the line through our budgets there",
            evidence=extrapolated("peer", other, BUDGETS[rank]),
            effect=gap("peer", other, rank),
            at_flops=BUDGETS[rank],
            pooled=True,
        )


def method_claims() -> Iterable[Claim]:
    for other in ("dense", "expert_choice", "pkm"):
        yield Claim(
            sentence=f"PEER has a lower perplexity than {NAMES[other]} for the same training FLOPs",
            source="figure 1, at one size",
            suite="methods",
            comparison=f"peer − {other} in one backbone",
            evidence=in_one_model("peer", other),
            effect=gap("peer", other, 0),
        )


def text_claims() -> Iterable[Claim]:
    for rank, (text, name) in product(range(len(BUDGETS)), SETS.items()):
        yield Claim(
            sentence=f"PEER has the lowest perplexity on {name}, {RANKS[rank]} budget",
            source=f"table 1 at {BUDGETS[rank]:.0e}",
            suite="table1",
            comparison=f"peer − best of the others on {text}",
            evidence=lowest_on(text, rank),
            effect=gap_to_best(text, rank),
            at_flops=BUDGETS[rank],
        )


CLAIMS: tuple[Claim, ...] = (
    *isoflop_claims(),
    *trend_claims(),
    *method_claims(),
    *text_claims(),
    Claim(
        sentence="PEER activates no more parameters than the dense layer it replaces",
        source="section 3.1",
        suite="isoflop",
        comparison="peer / dense − 1.02, active parameters in the largest backbone",
        evidence=more_active_parameters,
        unit="share",
        tolerance=0.01,
    ),
    Claim(
        sentence="more experts lower perplexity at the same number of active ones",
        source="figure 3a",
        suite="number_of_experts",
        comparison="slope of the loss per ×4 in N",
        evidence=per_quadrupling("validation_loss_nats", 1),
        effect=published("c4_perplexity", -1),
    ),
    Claim(
        sentence="more active experts lower perplexity",
        source="figure 3b",
        suite="active_experts",
        comparison="largest hk − smallest hk, each at its best h",
        evidence=more_active,
    ),
    Claim(
        sentence="the best number of heads grows with the number of active experts",
        source="figure 3b",
        suite="active_experts",
        comparison="best h at the smallest hk over that at the largest",
        evidence=best_heads,
        unit="doublings",
        tolerance=0.5,
    ),
    Claim(
        sentence="nearly all experts are used, with and without query batch norm",
        source="table 2",
        suite="query_norm",
        comparison=f"{USED_PERCENT} − lowest usage over all N",
        evidence=unused,
        effect=published_usage(),
        unit="% of experts",
    ),
    Claim(
        sentence="query batch norm makes the use of experts more even",
        source="table 2",
        suite="query_norm",
        comparison="unevenness with − without, mean over N",
        evidence=with_norm("unevenness_nats"),
        effect=published_norm("unevenness_nats"),
        unit="nats of KL",
    ),
    Claim(
        sentence="the use of experts is less even the more there are",
        source="table 2",
        suite="query_norm",
        comparison="falling slope of unevenness per ×4 in N, with batch norm",
        evidence=per_quadrupling("unevenness_nats", -1),
        effect=published("unevenness_nats", 1),
        unit="nats of KL",
    ),
    Claim(
        sentence="query batch norm lowers perplexity",
        source="table 2",
        suite="query_norm",
        comparison="loss with − without, mean over N",
        evidence=with_norm("validation_loss_nats"),
        effect=published_norm_nats(),
    ),
    Claim(
        sentence="query batch norm lowers perplexity near the optimum",
        source="figure 4",
        suite="query_norm_isoflop",
        comparison="with − without at the optimum of each",
        evidence=norm_at_optimum,
        effect=published_norm_nats(),
    ),
    Claim(
        sentence="query batch norm does not change perplexity much",
        source="figure 4",
        suite="query_norm_isoflop",
        comparison=f"with − without at the optimum of each, within ± {LOSS_TOLERANCE_NATS}",
        evidence=norm_at_optimum,
        kind="same",
    ),
)
SUITES = tuple(dict.fromkeys(claim.suite for claim in CLAIMS))


def sheet(
    profile: str,
    files: Mapping[str, Sequence[ResultFile]],
    chosen: Sequence[Claim] = CLAIMS,
    title: str = "The paper's claims",
    note: str = "paper: its effect at 6e18 and 2e19 FLOPs on C4, another scale than ours",
    only: Container[str] | None = None,
) -> Sheet:
    """A row per claim and per file of its suite; a claim whose suite has none was not run.

    `note` says what column "paper" holds; `only` leaves out the claims on other suites.
    """
    judged = [
        (claim, files_of, claim.judged(*files_of))
        for claim in chosen
        if only is None or claim.suite in only
        for files_of in groups(claim, files.get(claim.suite, []))
    ]
    family = [one for _, _, one in judged]
    frame = pd.DataFrame(
        [row(*one, word) for one, word in zip(judged, verdicts(family), strict=True)]
    )
    counts = counted(frame["verdict"])
    alone = counted(pd.Series([one.verdict for one in family]))
    return Sheet(
        title=f"{title}, profile {profile}",
        name="",
        frame=frame,
        says=f"Verdicts on {several(len(frame), 'claim')}: {counts}; "
        f"not corrected for their number: {alone}.",
        formats=dict.fromkeys(("paper", "ours", "low", "high"), "+.4f") | {"p": ".2g"},
        brief=["claim", "source", "paper", "ours", "low", "high", "verdict"],
        terminal=["claim", "paper", "ours", "low", "high", "verdict"],
        notes=[
            "ours: mean difference over seeds, paired by seed and so by data order, in column unit",
            "low and high bound its 95 % interval; agrees: below 0, by Holm's procedure over all claims here",
            "disagrees: nothing half as large as the paper's effect is left, by the same procedure",
            f"{NOT_TESTABLE}: the claim is on a budget over {REACH:.0f} times ours, and no trend decides it",
            "n seeds would find the paper's effect 9 times in 10, were it the only claim",
            note,
        ],
    )


def groups(claim: Claim, files: Sequence[ResultFile]) -> list[Sequence[ResultFile]]:
    """The records that are judged together: of one run, or all."""
    return [files] if claim.pooled or not files else [[file] for file in files]


def counted(verdicts: pd.Series) -> str:
    words = verdicts.str.replace(r" \(.*", "", regex=True)
    return ", ".join(f"{word} {(words == word).sum()}" for word in sorted(set(words)))


def row(
    claim: Claim, files: Sequence[ResultFile], judged: Judgement, verdict: str
) -> dict[str, object]:
    found = judged.interval
    code = files[-1].code if files else None
    return {
        "claim": claim.sentence,
        "source": claim.source,
        "comparison": claim.comparison,
        "unit": claim.unit,
        "paper": -claim.effect if claim.effect is not None and claim.kind == "below" else None,
        "ours": found and found.mean,
        "low": found and found.low,
        "high": found and found.high,
        "seeds": found.seeds if found else 0,
        "p": judged.p,
        "verdict": verdict,
        "suite": claim.suite,
        "commit": ((code.commit or "none")[:12] + ("+dirty" if code.dirty else ""))
        if code
        else "–",
    }
