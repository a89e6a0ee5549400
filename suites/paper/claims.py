"""The paper's testable sentences, each with the comparison that tests it and what our records say.

Differences are paired by seed, so by data order; the interval is Student's, 95 %. The effect is the
paper's, in the same unit, and never ours. Wins and losses stand in the order of the paper.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from suites.records.arms import Comparison, arms, by_seed
from suites.records.isoflop import Curve, curves
from suites.records.judgement import Judgement, Kind, judge, paired
from suites.records.published import table1, table2
from suites.records.record import ResultFile
from suites.records.sheet import Sheet
from suites.records.tables.arms import FORMS
from suites.records.tables.table1 import SETS, model_runs

Evidence = list[float] | str  # differences by seed, or why there are none
NATS = "nats/token"
METHODS = Comparison({"method": "layer"}, "method")
USED_PERCENT = 99.5  # the least that counts as all experts: the paper's lowest is 99.8


@dataclass(frozen=True)
class Claim:
    """That the differences which `evidence` finds in a file of `suite` are below 0, or the same."""

    sentence: str
    source: str
    suite: str
    comparison: str
    evidence: Callable[[ResultFile], Evidence]
    effect: float | None = None
    kind: Kind = "below"
    unit: str = NATS
    tolerance: float = 0.018

    def judged(self, file: ResultFile | None) -> Judgement:
        found = [] if file is None else self.evidence(file)
        if isinstance(found, str):
            return Judgement(f"undecided ({found})", None)
        return judge(found, self.kind, self.effect, self.tolerance)


def at_optimum(one: str, other: str, rank: int) -> Callable[[ResultFile], Evidence]:
    """Loss of layer `one` less that of `other`, each at its own optimum, at the budget of `rank`."""

    def evidence(file: ResultFile) -> Evidence:
        found = curves_at(file, rank)
        if one not in found or other not in found:
            return []
        return optima(found[one], found[other])

    return evidence


def optima(one: Curve, other: Curve) -> Evidence:
    if unfit := "; ".join(f"{c.label}: {c.unfit}" for c in (one, other) if c.unfit):
        return f"no optimum, {unfit}"
    return paired(one.loss_by_seed(), other.loss_by_seed())


def curves_at(file: ResultFile, rank: int) -> dict[str, Curve]:
    """Layer → its curve at the budget of `rank`, rising; empty beyond the budgets there are."""
    found = curves([file])
    budgets = sorted({curve.budget_flops for curve in found})
    if rank >= len(budgets):
        return {}
    return {curve.layer: curve for curve in found if curve.budget_flops == budgets[rank]}


def in_one_model(one: str, other: str) -> Callable[[ResultFile], Evidence]:
    """Loss of layer `one` less that of `other` in the same backbone at the same budget."""

    def evidence(file: ResultFile) -> Evidence:
        rows = rows_of(file).set_index("method")["cell"]
        if one not in rows or other not in rows:
            return []
        return paired(by_seed(rows[one]), by_seed(rows[other]))

    return evidence


def lowest_on(text: str, rank: int) -> Callable[[ResultFile], Evidence]:
    """Loss of PEER's model on a set less the lowest of the paper's other methods'."""

    def evidence(file: ResultFile) -> Evidence:
        losses = {}
        for layer, curve in curves_at(file, rank).items():
            runs = model_runs(curve)
            if layer in ("dense", "expert_choice", "pkm", "peer") and f"{text}_loss_nats" in runs:
                known = runs.dropna(subset=f"{text}_loss_nats")
                losses[layer] = dict(zip(known["seed"], known[f"{text}_loss_nats"], strict=True))
        if len(losses) < 4:
            return []
        peer = losses.pop("peer")
        best = min(losses.values(), key=lambda found: float(np.mean(list(found.values()))))
        return paired(peer, best)

    return evidence


def per_quadrupling(metric: str, sign: int) -> Callable[[ResultFile], Evidence]:
    """Slope of a metric per ×4 in N through all N with batch norm, times `sign`."""

    def evidence(file: ResultFile) -> Evidence:
        values = pd.DataFrame(
            {
                row["N"]: by_seed(row["cell"], metric)
                for _, row in rows_of(file).iterrows()
                if row.get("query norm", "batch") == "batch"
            }
        ).dropna()
        if values.shape[1] < 2:
            return []
        x = np.log(values.columns.to_numpy(dtype=float)) / math.log(4)
        return [sign * float(np.polyfit(x, y.to_numpy(), 1)[0]) for _, y in values.iterrows()]

    return evidence


def with_norm(metric: str) -> Callable[[ResultFile], Evidence]:
    """A metric with query batch norm less the same without, mean over all N."""

    def evidence(file: ResultFile) -> Evidence:
        rows = rows_of(file)
        by_n = []
        for _, group in rows.groupby("N"):
            cells = dict(zip(group["query norm"], group["cell"], strict=True))
            if not {"batch", "none"} <= set(cells):
                continue
            one, other = (by_seed(cells[norm], metric) for norm in ("batch", "none"))
            by_n.append({seed: one[seed] - other[seed] for seed in one if seed in other})
        return list(pd.DataFrame(by_n).dropna(axis=1).mean()) if by_n else []

    return evidence


def unused(file: ResultFile) -> Evidence:
    """How far the least used arm lies below what counts as all experts."""
    usage = [by_seed(cell, "expert_usage_percent") for cell in rows_of(file)["cell"]]
    return list(USED_PERCENT - pd.DataFrame(usage).dropna(axis=1).min())


def more_active(file: ResultFile) -> Evidence:
    """Loss at the largest hk less that at the smallest, each at its best h of that seed."""
    return [best[0].min() - best[1].min() for best in largest_and_smallest(file)]


def best_heads(file: ResultFile) -> Evidence:
    """Doublings of the best h from the largest hk down to the smallest: below 0 where h grows."""
    found = largest_and_smallest(file)
    return [math.log2(smallest.idxmin() / largest.idxmin()) for largest, smallest in found]


def largest_and_smallest(file: ResultFile) -> list[tuple[pd.Series, pd.Series]]:
    """Per seed, loss by h at the largest and at the smallest hk."""
    rows = rows_of(file)
    sides = []
    for active in (rows["hk"].max(), rows["hk"].min()):
        group = rows[rows["hk"] == active]
        losses = {row["h"]: by_seed(row["cell"]) for _, row in group.iterrows()}
        sides.append(pd.DataFrame(losses).dropna())
    return [
        (sides[0].loc[seed], sides[1].loc[seed])
        for seed in sides[0].index
        if seed in sides[1].index
    ]


def norm_at_optimum(file: ResultFile) -> Evidence:
    """Loss at the optimum with query batch norm less that without."""
    found = {"query_norm=batch" in curve.label: curve for curve in curves([file])}
    return optima(found[True], found[False]) if len(found) == 2 else []


def more_active_parameters(file: ResultFile) -> Evidence:
    """PEER's active parameters over dense's in the largest backbone, less 1.02: 2 % are a match."""
    found = curves_at(file, 0)
    if not {"dense", "peer"} <= set(found):
        return []
    dense, peer = (found[layer].runs for layer in ("dense", "peer"))
    largest = dense.loc[dense["parameters"].idxmax(), "backbone"]
    counts = [
        runs[runs["backbone"] == largest].set_index("seed")["active_parameters"].to_dict()
        for runs in (peer, dense)
    ]
    return [counts[0][seed] / counts[1][seed] - 1.02 for seed in counts[0] if seed in counts[1]]


def rows_of(file: ResultFile) -> pd.DataFrame:
    form = FORMS.get(file.suite)
    return arms([file], form.comparison if form else METHODS)


BUDGETS = ("6e18", "2e19")
NAMES = {"dense": "dense", "expert_choice": "MoE", "pkm": "PKM", "peer": "PEER"}


def gap(one: str, other: str, rank: int, text: str = "c4") -> float | None:
    """How far the paper's `one` lies below its `other`, in nats per token."""
    paper = list(table1().values())
    return math.log(paper[rank][other][text] / paper[rank][one][text]) if paper else None


def gap_to_best(text: str, rank: int) -> float | None:
    others = (gap("peer", other, rank, text) for other in ("dense", "expert_choice", "pkm"))
    return min((found for found in others if found is not None), default=None)


def published(metric: str, sign: int, norm: str | None = "batch") -> float | None:
    """Slope per ×4 in N of the paper's Table 2, times `sign`."""
    found = {N: row[metric] for (N, own), row in table2().items() if own == norm}
    if not found:
        return None
    logged = [math.log(v) if metric == "c4_perplexity" else v for v in found.values()]
    return sign * float(np.polyfit(np.log(list(found)) / math.log(4), logged, 1)[0])


def published_norm(metric: str) -> float | None:
    """How far the paper's Table 2 lies lower with batch norm, mean over N."""
    paper = table2()
    gaps = [paper[N, None][metric] - row[metric] for (N, norm), row in paper.items() if norm]
    return float(np.mean(gaps)) if gaps else None


def published_usage() -> float | None:
    """How far the paper's lowest usage lies above what counts as all experts."""
    usage = [row["expert_usage_percent"] for row in table2().values()]
    return min(usage) - USED_PERCENT if usage else None


def published_norm_nats() -> float | None:
    """The same of its perplexity at 1024² experts, in nats."""
    paper, N = table2(), 1024**2
    if not paper:
        return None
    return math.log(paper[N, None]["c4_perplexity"] / paper[N, "batch"]["c4_perplexity"])


def isoflop_claims() -> Iterable[Claim]:
    pairs = [("peer", "dense"), ("peer", "expert_choice"), ("peer", "pkm")]
    pairs += [("expert_choice", "dense"), ("pkm", "dense")]
    for rank, (one, other) in product(range(len(BUDGETS)), pairs):
        yield Claim(
            sentence=f"{NAMES[one]} has a lower compute-optimal perplexity than {NAMES[other]}, "
            f"{'lower' if rank == 0 else 'upper'} budget",
            source=f"figure 1, table 1 at {BUDGETS[rank]}",
            suite="isoflop",
            comparison=f"{one} − {other} at the optimum of each",
            evidence=at_optimum(one, other, rank),
            effect=gap(one, other, rank),
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
            sentence=f"PEER has the lowest perplexity on {name}, "
            f"{'lower' if rank == 0 else 'upper'} budget",
            source=f"table 1 at {BUDGETS[rank]}",
            suite="table1",
            comparison=f"peer − best of the others on {text}",
            evidence=lowest_on(text, rank),
            effect=gap_to_best(text, rank),
        )


CLAIMS: tuple[Claim, ...] = (
    *isoflop_claims(),
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
        comparison="with − without at the optimum of each, within ± 0.018",
        evidence=norm_at_optimum,
        kind="same",
    ),
)
SUITES = tuple(dict.fromkeys(claim.suite for claim in CLAIMS))


def sheet(profile: str, files: Mapping[str, Sequence[ResultFile | None]]) -> Sheet:
    """A row per claim and per file of its suite; a claim whose suite has none was not run."""
    rows = [row(claim, file) for claim in CLAIMS for file in files.get(claim.suite, [None])]
    frame = pd.DataFrame(rows)
    words = frame["verdict"].str.replace(r" \(.*", "", regex=True)
    counts = ", ".join(f"{(words == word).sum()} {word}" for word in sorted(set(words)))
    return Sheet(
        title=f"The paper's claims, profile {profile}",
        name="",
        frame=frame,
        formats=dict.fromkeys(("paper", "ours", "low", "high"), "+.4f"),
        brief=["claim", "source", "paper", "ours", "low", "high", "verdict"],
        notes=[
            counts,
            "ours: mean difference over seeds, paired by seed and so by data order, in column unit",
            "low and high bound its 95 % interval; reproduced: the interval lies below 0",
            "not reproduced: it lies above 0, or leaves nothing half as large as the paper's effect",
            "n seeds would find the paper's effect 9 times in 10",
            "paper: its effect at 6e18 and 2e19 FLOPs on C4, another scale than ours",
        ],
    )


def row(claim: Claim, file: ResultFile | None) -> dict[str, object]:
    judged = claim.judged(file)
    found = judged.interval
    code = file.code if file else None
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
        "verdict": judged.verdict,
        "suite": claim.suite,
        "commit": ((code.commit or "none")[:12] + ("+dirty" if code.dirty else ""))
        if code
        else "–",
    }
