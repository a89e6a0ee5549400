"""Figure 1 as tables: every point of the ladders, and the compute-optimal model of each method."""

import math
from collections import Counter
from itertools import chain
from typing import Any

import pandas as pd

from suites.analysis.curves import CONFIDENCE, REPLICATES, Curve, curves, drowning, spikes
from suites.analysis.judgement import Interval, interval, paired
from suites.records.published import table1
from suites.records.record import Record, ResultFile
from suites.tables.sentences import LOSS, apart, between, listed
from suites.tables.sheet import Sheet
from suites.tables.training import described

METHOD = (
    "minimum of a parabola of mean loss in log parameters; low and high bound "
    f"{CONFIDENCE:.0%} of {REPLICATES} bootstrap replicates over seeds"
)
CLAIM = (
    "the paper claims the lowest compute-optimal perplexity for PEER at both its budgets, 6e18 and "
    "2e19 FLOPs; its gaps (C4) stand beside our budgets in rising order"
)
REFERENCE = "dense"
GAP = ("− dense (nats)", "− dense, low", "− dense, high")
C4 = "c4"


def sheets(files: list[ResultFile]) -> list[Sheet]:
    """The optima first, then the points; refuses points whose training FLOPs miss the budget by 2 %."""
    found = curves(files)
    title = f"{files[0].suite}, profile {files[0].profile}"
    records = list(chain.from_iterable(file.records for file in files))
    return [optima(title, found, described(files)), points(title, found, records)]


def optima(title: str, curves: list[Curve], notes: list[str]) -> Sheet:
    rows = [row(curve, curves) for curve in curves]
    frame = pd.DataFrame(rows)
    edges = [
        f"{curve.label} at {curve.budget_flops:.2g} FLOPs: {curve.unfit}, so no optimum is reported"
        for curve in curves
        if curve.unfit
    ]
    return Sheet(
        title=f"{title}: compute-optimal models",
        name="optima",
        frame=frame,
        says=lowest(frame),
        formats=dict.fromkeys(GAP, "+.4f")
        | {
            "budget": ".2g",
            "parameters": ",.0f",
            "parameters, low": ",.0f",
            "parameters, high": ",.0f",
            "loss (nats/token)": ".4f",
            "loss, low": ".4f",
            "loss, high": ".4f",
            "perplexity": ".3f",
            "paper: − dense (nats)": "+.3f",
            "fit residual (nats)": ".4f",
        },
        brief=[
            "method",
            "budget",
            "parameters",
            "loss (nats/token)",
            "loss, low",
            "loss, high",
            *GAP,
            "paper: − dense (nats)",
        ],
        terminal=["method", "budget", "parameters", "loss (nats/token)", *GAP],
        notes=[
            METHOD,
            "− dense: of each seed's own minimum, paired; low and high bound Student's 95 % interval",
            CLAIM,
            *edges,
            *notes,
        ],
    )


def lowest(frame: pd.DataFrame) -> str:
    """The lowest optimum of each budget, and how far it is from dense where that has one."""
    fitted = frame.dropna(subset=[LOSS])
    if fitted.empty:
        return "No ladder has its optimum within it."
    said = []
    for budget, rows in fitted.groupby("budget"):
        best = rows.loc[rows[LOSS].astype(float).idxmin()]
        gap = "" if pd.isna(best[GAP[0]]) else f", less dense {apart(*best[list(GAP)])}"
        said.append(f"{best['method']} at {budget:.2g} FLOPs ({best[LOSS]:.3f}{gap})")
    return f"The lowest optimum, in nats per token: {listed(said)}."


def row(curve: Curve, curves: list[Curve]) -> dict[str, Any]:
    optimum = curve.optimum
    gap = less_dense(curve, curves)
    low, high = (optimum and optimum.parameters_interval) or (None, None)
    loss_low, loss_high = (optimum and optimum.loss_interval) or (None, None)
    return {
        "method": curve.label,
        "budget": curve.budget_flops,
        "sizes": len(curve.points),
        "seeds": int(curve.points["seeds"].min()),
        "parameters": optimum and optimum.parameters,
        "parameters, low": low,
        "parameters, high": high,
        "loss (nats/token)": optimum and optimum.loss,
        "loss, low": loss_low,
        "loss, high": loss_high,
        "perplexity": optimum and math.exp(optimum.loss),
        "− dense (nats)": gap and gap.mean,
        "− dense, low": gap and gap.low,
        "− dense, high": gap and gap.high,
        "paper: − dense (nats)": published_gap(curve, curves),
        "fit residual (nats)": None if curve.unfit else curve.residual_nats,
        "commit": curve.commit,
    }


def less_dense(curve: Curve, curves: list[Curve]) -> Interval | None:
    """Minimum of a curve less that of dense at its budget and commit, seed by seed, as in the verdict."""
    for dense in curves:
        same = (dense.budget_flops, dense.commit) == (curve.budget_flops, curve.commit)
        if same and dense.layer == REFERENCE and dense is not curve:
            if dense.unfit or curve.unfit:
                return None
            gaps = paired(curve.loss_by_seed(), dense.loss_by_seed())
            return interval(gaps) if gaps else None
    return None


def published_gap(curve: Curve, curves: list[Curve]) -> float | None:
    """The paper's gap to dense on C4 at its budget of the same rank, in nats."""
    perplexities = published_beside(curve, curves)
    if curve.layer == REFERENCE or curve.layer not in perplexities:
        return None
    return math.log(perplexities[curve.layer][C4] / perplexities[REFERENCE][C4])


def published_beside(curve: Curve, curves: list[Curve]) -> dict[str, dict[str, float]]:
    """Layer → set → the paper's perplexity at its budget of the same rank; empty beyond its two."""
    ours = sorted({other.budget_flops for other in curves})
    paper = table1()
    rank = ours.index(curve.budget_flops)
    return list(paper.values())[rank] if len(ours) == len(paper) else {}


def points(title: str, curves: list[Curve], records: list[Record]) -> Sheet:
    frames = []
    for curve in curves:
        shown = curve.points.rename(
            columns={
                "active_parameters": "active parameters",
                "training_flops": "training FLOPs",
                "loss": "loss (nats/token)",
                "std": "± (std)",
                "tokens_per_s": "tokens/s",
            }
        )
        shown["mismatch"] = shown["training FLOPs"] / curve.budget_flops - 1
        per_token = shown["training FLOPs"] / shown["tokens"]
        shown["GFLOP/s"] = per_token * shown["tokens/s"] / 1e9
        shown["perplexity"] = shown["loss (nats/token)"].map(math.exp)
        shown["method"], shown["budget"], shown["commit"] = (
            curve.label,
            curve.budget_flops,
            curve.commit,
        )
        frames.append(shown)
    columns = [
        "method",
        "budget",
        "backbone",
        "parameters",
        "active parameters",
        "steps",
        "tokens",
        "training FLOPs",
        "mismatch",
        "seeds",
        "loss (nats/token)",
        "± (std)",
        "perplexity",
        "tokens/s",
        "GFLOP/s",
        "commit",
    ]
    frame = pd.concat(frames, ignore_index=True)[columns]
    best = frame.loc[frame.groupby("budget")[LOSS].idxmin()]
    return Sheet(
        title=f"{title}: every point",
        name="points",
        frame=frame,
        says="The lowest point of each budget: "
        + listed(
            [
                f"{row['method']} in {row['backbone']} with {row[LOSS]:.3f} nats at {row['budget']:.2g} FLOPs"
                for _, row in best.iterrows()
            ]
        )
        + ".",
        formats={
            "budget": ".2g",
            "parameters": ",.0f",
            "active parameters": ",.0f",
            "steps": ",.0f",
            "tokens": ",.0f",
            "training FLOPs": ".3e",
            "mismatch": "+.2%",
            "loss (nats/token)": ".4f",
            "± (std)": ".4f",
            "perplexity": ".3f",
            "tokens/s": ",.0f",
            "GFLOP/s": ",.2f",
        },
        measured=["tokens/s", "GFLOP/s"],
        notes=[
            "backbone is blocks × width; parameters count embeddings and tables",
            *troubles(records),
        ],
    )


def troubles(records: list[Record]) -> list[str]:
    """Runs that failed, finished ones whose loss spiked, and layers that drowned the rest, by budget."""
    said, runs = [], Counter[tuple[str, float]]()
    drowned: dict[tuple[str, float], list[float]] = {}
    for record in records:
        case, backbone = record.case, record.case["backbone"]
        reason = spikes(record) if record.status == "ok" else record.reason
        if reason:
            said.append(
                f"{case['layer']} in {backbone['blocks']} × {backbone['dim']} at "
                f"{case['budget_flops']:.2g} FLOPs, seed {case['seed']}: {record.status}, {reason}"
            )
        group = case["layer"], case["budget_flops"]
        runs[group] += 1
        if (ratio := drowning(record)) is not None:
            drowned.setdefault(group, []).append(ratio)
    return said + [
        f"{layer} at {budget:.2g} FLOPs: in {len(ratios)} of {runs[layer, budget]} runs the layer adds "
        f"{between(pd.Series(ratios))} times what the residual stream holds, which drowns the rest"
        for (layer, budget), ratios in drowned.items()
    ]
