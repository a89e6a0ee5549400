"""What our records show on a claim: differences by seed that lie below 0 where the claim holds."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from suites.analysis.arms import arms, by_seed
from suites.analysis.comparison import Comparison
from suites.analysis.curves import Curve, curves
from suites.analysis.judgement import Interval, paired
from suites.analysis.trend import differences, line
from suites.records.record import ResultFile
from suites.tables.arms import form_of
from suites.tables.table1 import model_runs

Evidence = (
    list[float] | Interval | str
)  # differences by seed, their estimate, or why there are none
METHODS = Comparison({"method": "layer"}, "method")
USED_PERCENT = 99.5  # the least that counts as all experts: the paper's lowest is 99.8


def at_optimum(one: str, other: str, rank: int) -> Callable[[ResultFile], Evidence]:
    """Loss of layer `one` less that of `other`, each at its own optimum, at the budget of `rank`."""

    def evidence(file: ResultFile) -> Evidence:
        found = curves_at(file, rank)
        if one not in found or other not in found:
            return []
        return optima(found[one], found[other])

    return evidence


def extrapolated(
    one: str, other: str, budget_flops: float
) -> Callable[[Sequence[ResultFile]], Evidence]:
    """Where the line through the differences of all budgets lies at `budget_flops`."""

    def evidence(files: Sequence[ResultFile]) -> Evidence:
        found = line(differences(curves(list(files)), one, other))
        return found.at(budget_flops) if found else []

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
        rows = arms([file], METHODS).set_index("method")["cell"]
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
    return arms([file], form_of(file.suite).comparison)
