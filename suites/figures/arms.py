"""Figures of experiments that vary a layer: against a number, as intervals, or over training."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suites.analysis.arms import arms
from suites.figures.style import keyed, points, styles, titled
from suites.records.record import ResultFile
from suites.tables.arms import form_of

BARS = "bars are ± one standard deviation over seeds"


def against(
    x: str, label: str, lines: str | None = None, powers: bool = False
) -> Callable[[list[ResultFile]], dict[str, Figure]]:
    """Validation perplexity against column `x`, log scale, one line per value of `lines`: figure 3."""

    def figures(files: list[ResultFile]) -> dict[str, Figure]:
        suite = files[0].suite
        rows = arms(files, form_of(suite).comparison)
        drawn, axes = panel(files, f"Perplexity against the {label}")
        groups = list(rows.groupby(lines)) if lines else [("", rows)]
        labels = [f"peer {lines} = {value}" if lines else "peer" for value, _ in groups]
        looks = dict(zip((value for value, _ in groups), styles(labels).values(), strict=True))
        for value, group in groups:
            points = group.groupby(x).agg(loss=("loss", "mean"), std=("std", "mean")).reset_index()
            errorbars(axes, points[x], points, looks[value])
        ticks = sorted(rows[x].unique())
        names = [f"{round(tick**0.5)}²" if powers else str(tick) for tick in ticks]
        axes.set(xscale="log", xlabel=label, ylabel="validation perplexity")
        axes.set_xticks(ticks, names)
        axes.set_xticks([], minor=True)
        if lines:
            keyed(drawn)
        return {suite: drawn}

    return figures


over_experts = against("N", "number of experts N", powers=True)
over_heads = against("h", "heads h", lines="hk")


def errorbars(axes: Axes, x: pd.Series, points: pd.DataFrame, look: dict[str, Any]) -> None:
    perplexity = np.exp(points["loss"])
    spread = np.exp(points["loss"] + points["std"].astype(float).fillna(0)) - perplexity
    axes.errorbar(x, perplexity, yerr=spread, markersize=5, capsize=2, **look)


def intervals(files: list[ResultFile]) -> dict[str, Figure]:
    """Mean loss of every arm with the spread of its seeds, in the order of the table."""
    suite = files[0].suite
    comparison = form_of(suite).comparison
    rows = arms(files, comparison)
    drawn, axes = panel(files, "Loss of each arm", height=1.5 + 0.35 * len(rows))
    names = [
        ", ".join(
            f"{value:.3g}" if isinstance(value := row[column], float) else str(value)
            for column in comparison.varied
        )
        for _, row in rows.iterrows()
    ]
    places = range(len(rows))
    layers = [cell.case["layer"] for cell in rows["cell"]]
    looks = styles(layers)
    for place, layer, (_, row) in zip(places, layers, rows.iterrows(), strict=True):
        spread = 0.0 if pd.isna(row["std"]) else row["std"]
        look = points(looks[layer])
        axes.errorbar(row["loss"], place, xerr=spread, markersize=6, capsize=2, **look)
    axes.set(xlabel="validation loss (nats / token)", ylabel=", ".join(comparison.varied))
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    return {suite: drawn}


def pairs(files: list[ResultFile]) -> dict[str, Figure]:
    """Perplexity, usage and unevenness against N, without and with query norm: table 2 as a figure."""
    suite = files[0].suite
    rows = arms(files, form_of(suite).comparison)
    drawn = Figure(figsize=(14, 4.2), layout="constrained")
    panels = drawn.subplots(1, 3)
    shown = {
        "validation_perplexity": "validation perplexity",
        "expert_usage_percent": "expert usage %",
        "unevenness_nats": "unevenness (nats)",
    }
    for axes, (metric, label) in zip(panels, shown.items(), strict=True):
        norms = list(rows.groupby("query norm"))
        looks = styles(f"peer with query norm {norm}" for norm, _ in norms).values()
        for (_, group), look in zip(norms, looks, strict=True):
            axes.plot(group["N"], group[metric], **look)
        ticks = sorted(rows["N"].unique())
        axes.set(xscale="log", xlabel="number of experts N", ylabel=label)
        axes.set_xticks(ticks, [f"{round(tick**0.5)}²" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
    keyed(drawn)
    what = "Query batch norm and the number of experts: perplexity, usage and its unevenness"
    titled(drawn, f"{what} ({suite}, profile {files[0].profile}, means over seeds)")
    return {suite: drawn}


def over_training(files: list[ResultFile]) -> dict[str, Figure]:
    """Usage and unevenness of each arm against training tokens, a thin line per seed."""
    suite = files[0].suite
    varied = form_of(suite).comparison.varied
    drawn = Figure(figsize=(11, 4.4), layout="constrained")
    panels = drawn.subplots(1, 2)
    shown = {"expert_usage_percent": "expert usage %", "unevenness_nats": "unevenness (nats)"}
    rows = arms(files, form_of(suite).comparison)
    first = math.inf  # tokens of the earliest look after the start
    names = [" ".join(str(row[column]) for column in varied) for _, row in rows.iterrows()]
    looks = styles(names)
    for name, (_, row) in zip(names, rows.iterrows(), strict=True):
        look = looks[name]
        for count, record in enumerate(row["cell"].finished):
            series = record.series
            tokens = np.array(series["usage_step"]) * record.case["batch_sequences"]
            tokens *= record.case["backbone"]["context"]
            first = min(first, tokens[1])
            for axes, metric in zip(panels, shown, strict=True):
                axes.plot(
                    tokens,
                    series[metric],
                    alpha=0.7,
                    markersize=4,
                    **(look | {"label": None} if count else look),
                )
    for axes, label in zip(panels, shown.values(), strict=True):
        axes.set_xscale("symlog", linthresh=first)
        axes.set(xlabel="training tokens", ylabel=label)
        axes.grid(alpha=0.3)
    keyed(drawn)
    titled(
        drawn,
        f"How many experts are used, and how unevenly, as training goes on ({suite}, profile "
        f"{files[0].profile}; on one batch of validation, a line per seed)",
    )
    return {suite: drawn}


def panel(files: list[ResultFile], sentence: str, height: float = 4.6) -> tuple[Figure, Axes]:
    drawn = Figure(figsize=(6.5, height), layout="constrained")
    axes = drawn.subplots()
    axes.grid(alpha=0.3)
    titled(drawn, f"{sentence} ({files[0].suite}, profile {files[0].profile}; {BARS})")
    return drawn, axes
