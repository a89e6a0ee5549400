"""The paper's tables and figures with ours beside them."""

from collections.abc import Iterator, Mapping
from functools import partial

import altair as alt
import numpy as np
import pandas as pd

from suites.analysis.arms import arms
from suites.analysis.curves import Curve, curves
from suites.records.record import ResultFile
from suites.report import charts
from suites.report.grid import of_sheet
from suites.report.headline import powers
from suites.report.sources import Row, Source, Sources, word
from suites.report.view import Chart, Note, View
from suites.tables.arms import form_of
from suites.tables.sheet import Sheet

# (suite, name of its sheet) → what of the paper it stands beside, in the paper's order
TABLES = {
    ("table1", "perplexity"): "Table 1: perplexity of each method's compute-optimal model",
    ("isoflop", "optima"): "Figure 1: compute-optimal models",
    ("compute_trend", "differences"): "Figure 1: where the differences head as compute grows",
    ("number_of_experts", ""): "Figure 3a: the number of experts",
    ("active_experts", ""): "Figure 3b: active experts and heads",
    ("query_norm", ""): "Table 2: expert usage and unevenness, with and without query norm",
    ("query_norm_isoflop", "optima"): "Figure 4: query norm at the optimum",
}
CAPTION = "Points are means over seeds with ± one standard deviation; a point leads to its runs."


def view(sources: Sources, sheets: Mapping[tuple[str, str], Sheet]) -> View:
    """`sheets` by suite and name, each of the largest scale of its suite."""
    blocks: list = []
    for (suite, name), title in TABLES.items():
        profile = sources.scale_of(suite)
        if profile is None or (suite, name) not in sheets:
            continue
        blocks += drawn(suite, title, sources.of(suite, profile))
        sheet = sheets[suite, name]
        link = sources.linker(suite, profile)
        paper = partial(beside, sources, suite)
        made = of_sheet(f"{suite}-{profile}", sheet, link, sheet.brief, paper)
        blocks.append(made.model_copy(update={"title": title}))
    return View(
        "paper",
        "Paper",
        "The paper's tables and figures",
        "Columns that begin with “paper:” are the paper's, at 6e18 and 2e19 FLOPs on C4; the others are "
        "ours. Numbers at scales so far apart compare by direction and not by size.",
        blocks or [Note("No record stands beside them yet: python -m suites paper makes some.")],
    )


def beside(sources: Sources, suite: str, _: Row) -> str | None:
    return sources.publication(suite)


def drawn(suite: str, title: str, found: list[Source]) -> Iterator[Chart]:
    files = [source.file for source in found]
    if suite in ("isoflop", "query_norm_isoflop"):
        yield Chart(
            title,
            f"Loss against size at equal training FLOPs. {CAPTION} Lines: the parabolas whose minima count.",
            charts.svg(ladders(curves(files), found), title),
        )
    elif suite in ("number_of_experts", "active_experts"):
        axis = ("N", "experts N") if suite == "number_of_experts" else ("h", "heads h")
        yield Chart(title, CAPTION, charts.svg(effect(suite, files, found, *axis), title))


def ladders(found: list[Curve], sources: list[Source]) -> alt.TopLevelMixin:
    points, fits = [], []
    for curve in found:
        budget, source = powers(f"{curve.budget_flops:.2g}"), at(sources, curve.commit)
        for _, row in curve.points.iterrows():
            spread = 0.0 if np.isnan(row["std"]) else row["std"]
            label = curve.label.split()
            words = [word("layer", label[0]), *label[1:]]
            points.append(
                {
                    "label": curve.label,
                    "budget": budget,
                    "parameters": row["parameters"],
                    "loss": row["loss"],
                    "low": row["loss"] - spread,
                    "high": row["loss"] + spread,
                    "says": f"{curve.label}, {row['backbone']}: {row['loss']:.4f} ± {spread:.4f} nats, "
                    f"{row['parameters']:,.0f} parameters, {row['seeds']:.0f} seeds",
                    "link": source.of([*words, word("budget_flops", curve.budget_flops)]),
                }
            )
        x = np.linspace(curve.x[0], curve.x[-1], 40)
        if len(curve.points) > 2:
            fits += [
                {
                    "label": curve.label,
                    "budget": budget,
                    "parameters": np.exp(p),
                    "loss": loss,
                    "says": "",
                    "link": "",
                }
                for p, loss in zip(x, np.polyval(curve.parabola, x), strict=True)
            ]
    rows = charts.rows_of(points)
    return charts.isoflop(
        rows, charts.rows_of(fits) if fits else rows[:0], list(dict.fromkeys(rows["budget"]))
    )


def effect(
    suite: str, files: list[ResultFile], sources: list[Source], column: str, title: str
) -> alt.TopLevelMixin:
    found = arms(files, form_of(suite).comparison)
    others = [c for c in form_of(suite).comparison.varied if c != column]
    rows = []
    for _, row in found.iterrows():
        spread = 0.0 if pd.isna(row["std"]) else row["std"]
        label = " ".join(["peer", *(f"{name} {row[name]}" for name in others)])
        rows.append(
            {
                "label": label,
                "x": row[column],
                "value": row["loss"],
                "low": row["loss"] - spread,
                "high": row["loss"] + spread,
                "says": f"{label}, {column} {row[column]}: {row['loss']:.4f} ± {spread:.4f} nats, "
                f"{row['seeds']} seeds",
                "link": at(sources, row["commit"]).of(
                    word(path, row["cell"].case["options"].get(path.rpartition(".")[2]))
                    for path in form_of(suite).comparison.varied.values()
                    if isinstance(path, str) and path.startswith("options.")
                ),
            }
        )
    return charts.effects(charts.rows_of(rows), title)


def at(sources: list[Source], commit: str) -> Source:
    """The one whose record is of `commit`."""
    return next(s for s in sources if s.file.code and (s.file.code.commit or "").startswith(commit))
