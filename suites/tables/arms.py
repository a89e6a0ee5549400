"""Tables of experiments that vary a layer: a row per arm and its difference to a reference."""

import pandas as pd

from suites.analysis.arms import arms, failures
from suites.records.published import table2
from suites.records.record import ResultFile
from suites.registry import load
from suites.tables.form import USAGE, Form
from suites.tables.sentences import of_arms
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
        says=of_arms(rows, varied, form.comparison.against),
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
