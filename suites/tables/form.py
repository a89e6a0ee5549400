"""How an experiment states its table: columns, what its arms have alike, notes. Imports no pandas, so that
an experiment is named and explained without.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from suites.analysis.comparison import Comparison
from suites.records.budget import Budget

if TYPE_CHECKING:
    import pandas as pd

USAGE = {
    "expert_usage_percent": ("expert usage %", ".1f"),
    "unevenness_nats": ("unevenness (nats)", ".3f"),
}
LEAKS = {
    f"{mode}_{what}_leak_nats": (f"{what} leak in {mode} (nats)", ".2e")
    for mode in ("training", "evaluation")
    for what in ("future", "batch")
}
PAPER = ("the paper's values are of 6e18 FLOPs on C4: only directions compare with ours",)
EXPERTS, NORM, LAYER = (
    {"N": "options.experts"},
    {"query norm": "options.query_norm"},
    {"method": "layer"},
)


class Matched(NamedTuple):
    """What the arms have alike: its name, and each row's difference from what it should be.

    A contract raises UserError where a difference is too large; time has none, since it is measured.
    """

    column: str
    mismatch: Callable[[pd.DataFrame], list[float]]


def training_flops(rows: pd.DataFrame) -> list[float]:
    return within(rows, rows["training_flops"])


def parameters(rows: pd.DataFrame) -> list[float]:
    """Those of the first row are the reference."""
    first = rows.iloc[0]
    budget = Budget(kind="parameters", reference=first["parameters"], row="the first row")
    return list(budget.check(named(rows, rows["parameters"])).values())


def sparse_parameters(rows: pd.DataFrame) -> list[float]:
    """Of all rows but dense ones against PEER's; a dense row has none to compare."""
    dense = rows["method"] == "dense"
    reference = float(rows.loc[rows["method"] == "peer", "parameters"].iloc[0])
    budget = Budget(kind="parameters", reference=reference, row="peer")
    gaps = budget.check(named(rows[~dense], rows.loc[~dense, "parameters"]))
    found = iter(gaps.values())
    return [math.nan if is_dense else next(found) for is_dense in dense]


def within(rows: pd.DataFrame, spent: pd.Series) -> list[float]:
    return [
        Budget(kind="training_flops", reference=budget).check({name: flops})[name]
        for budget, (name, flops) in zip(
            rows["budget_flops"], named(rows, spent).items(), strict=True
        )
    ]


def seconds(rows: pd.DataFrame) -> list[float]:
    """Of training, against the first row's."""
    return list(rows["train_s"] / rows["train_s"].iloc[0] - 1)


def named(rows: pd.DataFrame, values: pd.Series) -> dict[str, float]:
    return {f"row {number}": float(value) for number, value in enumerate(values, start=1)}


SECONDS = "seconds against the first row"
FLOPS = Matched("mismatch", training_flops)


class Form(NamedTuple):
    """How one experiment is printed."""

    comparison: Comparison
    more: Mapping[str, tuple[str, str]] = {}
    published: bool = False
    matched: tuple[Matched, ...] = (FLOPS,)
    notes: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
