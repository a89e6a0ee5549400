"""Tables of experiments that vary a layer: a row per arm and its difference to a reference."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pandas as pd

from suites.analysis.arms import Comparison, arms, failures
from suites.records.budget import Budget
from suites.records.published import table2
from suites.records.record import ResultFile
from suites.registry import load
from suites.tables.sheet import Sheet
from suites.tables.training import described

# metric → column, its format
SHOWN = {
    "parameters": ("parameters", ",.0f"),
    "active_parameters": ("active parameters", ",.0f"),
    "tokens": ("tokens", ",.0f"),
    "loss": ("loss (nats/token)", ".4f"),
    "std": ("± (std)", ".4f"),
    "validation_perplexity": ("perplexity", ".3f"),
    "difference": ("difference (nats)", "+.4f"),
    "low": ("low", "+.4f"),
    "high": ("high", "+.4f"),
}
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


def sheet(files: list[ResultFile], form: Form) -> Sheet:
    rows = arms(files, form.comparison)
    varied = list(form.comparison.varied)
    frame = rows[[*varied, "seeds"]].copy()
    formats = {"budget": ".3g"} if "budget" in frame else {}
    for metric, (column, shape) in (SHOWN | dict(form.more)).items():
        if metric in rows and rows[metric].notna().any():
            frame[column], formats[column] = rows[metric], shape
    for matched in form.matched:
        frame[matched.column], formats[matched.column] = matched.mismatch(rows), "+.2%"
    beside = published(rows) if form.published else {}
    for column, values in beside.items():
        frame[column], formats[column] = values, ".2f"
    frame["commit"] = rows["commit"]
    brief = [*varied, "loss (nats/token)", "difference (nats)", "low", "high"]
    if beside:
        brief += [column for column, _ in form.more.values() if column in frame] + list(beside)
    first = rows[form.comparison.against].iloc[0]
    budgets = " and ".join(f"{flops:.3g}" for flops in rows["budget_flops"].unique())
    return Sheet(
        title=f"{files[0].suite}, profile {files[0].profile}",
        frame=frame,
        formats=formats,
        brief=brief,
        measured=list(form.measured),
        notes=[
            f"difference: mean loss minus that at {form.comparison.against} = {first}",
            "low and high bound the 95 % interval of the difference, paired by seed",
            *form.notes,
            *usage_notes(rows, form),
            *described(files),
            f"budget: {budgets} training FLOPs",
            *failures(files),
        ],
    )


def usage_notes(rows: pd.DataFrame, form: Form) -> list[str]:
    if not set(USAGE) & set(form.more):
        return []
    tokens = int(rows["evaluation_tokens"].iloc[0])
    return [
        f"usage and unevenness over {tokens:,} validation tokens: both depend on their number",
        "unevenness: KL(z ‖ uniform) = log N + Σ z log z, natural log",
    ]


def published(rows: pd.DataFrame) -> dict[str, list[float | None]]:
    """The paper's Table 2 (6e18 FLOPs on C4) for rows whose N and query norm it has."""
    paper = table2()
    options = [cell.case["options"] for cell in rows["cell"]]
    found = [paper.get((one["experts"], one["query_norm"]), {}) for one in options]
    return {
        "paper: perplexity": [one.get("c4_perplexity") for one in found],
        "paper: usage %": [one.get("expert_usage_percent") for one in found],
        "paper: unevenness": [one.get("unevenness_nats") for one in found],
    }


def form_of(suite: str) -> Form:
    """What the module of `suite` says about its table."""
    return load(suite).FORM


def sheets(files: list[ResultFile]) -> list[Sheet]:
    return [sheet(files, form_of(files[0].suite))]
