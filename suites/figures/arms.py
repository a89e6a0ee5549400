"""Figures of experiments that vary a layer: against a number, as intervals, or over training."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suites.analysis.arms import arms
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
        drawn, axes = panel(files)
        groups = list(rows.groupby(lines)) if lines else [(None, rows)]
        for value, group in groups:
            points = group.groupby(x).agg(loss=("loss", "mean"), std=("std", "mean")).reset_index()
            errorbars(axes, points[x], points, None if value is None else f"{lines} = {value}")
        ticks = sorted(rows[x].unique())
        names = [f"{round(tick**0.5)}²" if powers else str(tick) for tick in ticks]
        axes.set(xscale="log", xlabel=label, ylabel="validation perplexity")
        axes.set_xticks(ticks, names)
        axes.set_xticks([], minor=True)
        if lines:
            axes.legend(fontsize="small")
        return {suite: drawn}

    return figures


over_experts = against("N", "number of experts N", powers=True)
over_heads = against("h", "heads h", lines="hk")


def errorbars(axes: Axes, x: pd.Series, points: pd.DataFrame, label: str | None) -> None:
    perplexity = np.exp(points["loss"])
    spread = np.exp(points["loss"] + points["std"].astype(float).fillna(0)) - perplexity
    axes.errorbar(x, perplexity, yerr=spread, marker="o", markersize=4, capsize=2, label=label)


def intervals(files: list[ResultFile]) -> dict[str, Figure]:
    """Mean loss of every arm with the spread of its seeds, in the order of the table."""
    suite = files[0].suite
    comparison = form_of(suite).comparison
    rows = arms(files, comparison)
    drawn, axes = panel(files, height=1.2 + 0.35 * len(rows))
    names = [
        ", ".join(
            f"{value:.3g}" if isinstance(value := row[column], float) else str(value)
            for column in comparison.varied
        )
        for _, row in rows.iterrows()
    ]
    places = range(len(rows))
    axes.errorbar(
        rows["loss"],
        places,
        xerr=rows["std"].astype(float).fillna(0),
        fmt="o",
        markersize=4,
        capsize=2,
    )
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
        for norm, group in rows.groupby("query norm"):
            axes.plot(
                group["N"], group[metric], marker="o", markersize=4, label=f"query norm {norm}"
            )
        ticks = sorted(rows["N"].unique())
        axes.set(xscale="log", xlabel="number of experts N", ylabel=label)
        axes.set_xticks(ticks, [f"{round(tick**0.5)}²" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
    drawn.suptitle(f"{suite}, profile {files[0].profile}", fontsize="medium")
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
    for number, (_, row) in enumerate(rows.iterrows()):
        name = ", ".join(str(row[column]) for column in varied)
        for count, record in enumerate(row["cell"].finished):
            series = record.series
            tokens = np.array(series["usage_step"]) * record.case["batch_sequences"]
            tokens *= record.case["backbone"]["context"]
            first = min(first, tokens[1])
            for axes, metric in zip(panels, shown, strict=True):
                axes.plot(
                    tokens,
                    series[metric],
                    color=f"C{number}",
                    alpha=0.7,
                    marker=".",
                    label=None if count else name,
                )
    for axes, label in zip(panels, shown.values(), strict=True):
        axes.set_xscale("symlog", linthresh=first)
        axes.set(xlabel="training tokens", ylabel=label)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
    drawn.suptitle(
        f"{suite}, profile {files[0].profile}: on one batch of validation, a line per seed",
        fontsize="medium",
    )
    return {suite: drawn}


def panel(files: list[ResultFile], height: float = 4.4) -> tuple[Figure, Axes]:
    drawn = Figure(figsize=(6.5, height), layout="constrained")
    axes = drawn.subplots()
    axes.grid(alpha=0.3)
    axes.set_title(f"{files[0].suite}, profile {files[0].profile}: {BARS}", fontsize="small")
    return drawn, axes
