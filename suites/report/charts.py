"""Charts as SVG, drawn when the report is built: a mark says its values and leads to its record.

Colours and names are those of the committed figures. A page that holds them runs no charting library.
"""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from suites.figures.style import METHODS, styles

SHAPES = {
    "o": "circle",
    "s": "square",
    "D": "diamond",
    "^": "triangle-up",
    "v": "triangle-down",
    "P": "cross",
    "<": "triangle-left",
    ">": "triangle-right",
}
INK, QUIET, RULE = "#1d2530", "#5b6675", "#e3e7ec"
FONT = "Helvetica Neue, Helvetica, Arial, sans-serif"
CONFIG: dict[str, Any] = {
    "font": FONT,
    # A reader's fonts may be wider than those by which the room for labels is measured.
    "padding": {"left": 20, "top": 5, "right": 5, "bottom": 5},
    "background": None,
    "view": {"stroke": None},
    "axis": {
        "labelColor": QUIET,
        "titleColor": INK,
        "titleFontWeight": "normal",
        "gridColor": RULE,
        "domainColor": QUIET,
        "tickColor": QUIET,
        "labelFontSize": 11,
        "titleFontSize": 12,
        "labelLimit": 300,
    },
    "legend": {
        "labelColor": INK,
        "labelFontSize": 12,
        "orient": "bottom",
        "title": None,
        "columns": 4,
        "symbolSize": 80,
        "labelLimit": 260,
    },
    "header": {"labelColor": INK, "labelFontSize": 12, "labelFontWeight": "bold", "title": None},
    "title": {"color": INK, "fontSize": 12, "anchor": "start"},
}


# Of a logarithmic axis: text for the ticks that Vega labels, and nothing drawn for the others.
TICK = "datum.label == '' ? '' : format(datum.value, datum.value < 1 ? '~g' : '~s')"
LABELLED = {"condition": {"test": "datum.label != ''", "value": 1}, "value": 0}
NATS = "validation loss (nats per token)"
BASE = "https://report.invalid/"  # of links while a chart is drawn: Vega knows no relative ones


def rows_of(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Data of a chart from rows with `label` (a method and its variant), `says` and `link`.

    They gain `method`, the label as the committed figures say it.
    """
    frame = pd.DataFrame(list(rows))
    found = styles(in_order(frame["label"]))
    return frame.assign(
        method=[found[label]["label"] for label in frame["label"]],
        link=[BASE + link if link else None for link in frame["link"]],
    )


def in_order(labels: Iterable[str]) -> list[str]:
    """As the committed figures list methods, whatever order the records have."""
    known = list(METHODS)
    return sorted(
        dict.fromkeys(labels),
        key=lambda label: known.index(name) if (name := label.split()[0]) in known else len(known),
    )


def look(rows: pd.DataFrame) -> dict[str, Any]:
    """Encodings of the methods in `rows`: each its colour and shape, in one legend."""
    found = styles(in_order(rows["label"])).values()
    names = [one["label"] for one in found]
    shapes = [SHAPES.get(one["marker"], "circle") for one in found]
    return {
        "color": alt.Color(
            "method:N", scale=alt.Scale(domain=names, range=[one["color"] for one in found])
        ),
        "shape": alt.Shape("method:N", scale=alt.Scale(domain=names, range=shapes)),
    }


def marks(chart: alt.Chart, rows: pd.DataFrame, **encodings: Any) -> alt.Chart:
    """Points that say their values and lead to their records."""
    return chart.mark_point(size=70, opacity=0.85, filled=True).encode(
        **look(rows), href="link:N", description="says:N", **encodings
    )


def log(field: str, title: str, **more: Any) -> dict[str, Any]:
    """Arguments of a logarithmic axis with few, plain ticks."""
    return {
        "shorthand": f"{field}:Q",
        "title": title,
        "scale": alt.Scale(type="log", nice=False, padding=12),
        "axis": alt.Axis(
            labelExpr=TICK, gridOpacity=LABELLED, tickOpacity=LABELLED, labelOverlap=True
        ),
        **more,
    }


def forest(rows: pd.DataFrame) -> alt.TopLevelMixin:
    """PEER less each method with its interval, a panel per sense of equality; left of 0 PEER is better.

    Rows: `held`, `mean`, `low`, `high`.
    """
    order = [one["label"] for one in styles(in_order(rows["label"])).values()]
    x = alt.X(
        "mean:Q",
        title="PEER less the method (nats per token): left of 0 PEER is better",
        axis=alt.Axis(format="+.1f", values=[-0.4, -0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3, 0.4]),
    )
    y = alt.Y("method:N", sort=order, title=None)
    color = look(rows)["color"].legend(None)
    base = alt.Chart(rows)
    zero = base.mark_rule(color=INK, strokeDash=[3, 3]).encode(x=alt.datum(0))
    span = base.mark_rule(strokeWidth=2.5).encode(x=alt.X("low:Q"), x2="high:Q", y=y, color=color)
    points = marks(base, rows, x=x, y=y).encode(color=color, shape=look(rows)["shape"].legend(None))
    return (
        alt.layer(zero, span, points)
        .properties(width=760, height=24 * len(order))
        .facet(
            row=alt.Row(
                "held:N",
                sort=list(dict.fromkeys(rows["held"])),
                header=alt.Header(labelOrient="top", labelAnchor="start", labelAngle=0),
            ),
            spacing=14,
        )
    )


def isoflop(points: pd.DataFrame, fits: pd.DataFrame, budgets: Sequence[str]) -> alt.TopLevelMixin:
    """Loss against parameters, a panel per budget; lines are the fitted parabolas."""

    def panel(budget: str) -> alt.LayerChart:
        own, lines = points[points["budget"] == budget], fits[fits["budget"] == budget]
        y = alt.Y("loss:Q", title=NATS, scale=alt.Scale(zero=False))
        x = alt.X(**log("parameters", "parameters"))
        curve = (
            alt.Chart(lines)
            .mark_line(opacity=0.6, strokeWidth=2)
            .encode(x=x, y=y, color=look(points)["color"], detail="label:N")
        )
        spread = (
            alt.Chart(own)
            .mark_rule(opacity=0.7)
            .encode(x=x, y=alt.Y("low:Q", title=NATS), y2="high:Q", color=look(points)["color"])
        )
        return (curve + spread + marks(alt.Chart(own), points, x=x, y=y)).properties(
            width=430, height=300, title=f"{budget} training FLOPs"
        )

    return alt.hconcat(*map(panel, budgets)).resolve_scale(y="shared")


def trade(rows: pd.DataFrame, costs: Mapping[str, str]) -> alt.TopLevelMixin:
    """Loss against each cost, those that nothing beats in both joined by a line.

    `costs`: column → title of its axis; `COLUMN front` says which rows nothing beats.
    """

    def panel(cost: str) -> alt.LayerChart:
        x = alt.X(**log(cost, costs[cost]))
        y = alt.Y("loss:Q", title=NATS, scale=alt.Scale(zero=False))
        own = rows.dropna(subset=[cost])
        front = own[own[f"{cost} front"]].sort_values(cost)
        steps = (
            alt.Chart(front)
            .mark_line(color=QUIET, strokeDash=[4, 3], interpolate="step-after")
            .encode(x=x, y=y)
        )
        return (steps + marks(alt.Chart(own), rows, x=x, y=y)).properties(width=430, height=260)

    return alt.concat(*map(panel, costs), columns=2, spacing=24)


def effects(rows: pd.DataFrame, title: str) -> alt.TopLevelMixin:
    """A loss, `value` with `low` and `high`, against `x`, a line per method and variant."""
    across = alt.X(**log("x", title))
    up = alt.Y("value:Q", title=NATS, scale=alt.Scale(zero=False))
    color = look(rows)["color"]
    line = alt.Chart(rows).mark_line(opacity=0.5).encode(x=across, y=up, color=color)
    spread = (
        alt.Chart(rows)
        .mark_rule()
        .encode(x=across, y=alt.Y("low:Q", title=NATS), y2="high:Q", color=color)
    )
    return (line + spread + marks(alt.Chart(rows), rows, x=across, y=up)).properties(
        width=560, height=300
    )


def scaling(rows: pd.DataFrame, phases: Sequence[str], title: str, y: str) -> alt.TopLevelMixin:
    """A time or a memory against a size, a panel per phase, both axes logarithmic."""

    def panel(phase: str) -> alt.LayerChart:
        own = rows[rows["phase"] == phase]
        across, up = alt.X(**log("x", title)), alt.Y(**log("value", y))
        line = (
            alt.Chart(own)
            .mark_line(opacity=0.5)
            .encode(x=across, y=up, color=look(rows)["color"], detail="label:N")
        )
        return (line + marks(alt.Chart(own), rows, x=across, y=up)).properties(
            width=430, height=260, title=phase.replace("_", " ")
        )

    return alt.concat(*map(panel, phases), columns=2, spacing=24)


def roofline(rows: pd.DataFrame, roof: pd.DataFrame) -> alt.TopLevelMixin:
    """Speed against FLOPs per byte, below what a copy and a GEMM of the same run reached."""
    x, y = alt.X(**log("intensity", "FLOPs per compulsory byte")), alt.Y(**log("speed", "GFLOP/s"))
    line = alt.Chart(roof).mark_line(color=INK).encode(x=x, y=y)
    return (line + marks(alt.Chart(rows), rows, x=x, y=y)).properties(width=560, height=330)


def levels(rows: pd.DataFrame, starts: pd.DataFrame, title: str) -> alt.TopLevelMixin:
    """One number over commits from the oldest on; a rule where a new level begins."""
    order = list(dict.fromkeys(rows["commit"]))
    x = alt.X("commit:N", sort=order, title="commit, oldest first", axis=alt.Axis(labelAngle=0))
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    base = alt.Chart(rows)
    line = base.mark_line(color=QUIET).encode(x=x, y=y)
    points = base.mark_point(filled=True, size=70, color="#0072B2").encode(
        x=x, y=y, href="link:N", description="says:N"
    )
    rule = alt.Chart(starts).mark_rule(color="#D55E00", strokeDash=[4, 3]).encode(x=x)
    return (line + rule + points).properties(width=520, height=200)


def svg(chart: alt.TopLevelMixin, name: str) -> str:
    """Markup to stand in a page; `name` is what a screen reader calls the picture.

    Marks keep what they say in `data-says`; of Vega's roles and labels nothing else is of use there.
    """
    made = vl_convert.vegalite_to_svg(chart.to_dict() | {"config": CONFIG})
    slug = re.sub(r"\W+", "-", name.lower())
    made = re.sub(r' id="([^"]+)"', rf' id="{slug}-\1"', made)
    made = re.sub(r"url\(#([^)]+)\)", rf"url(#{slug}-\1)", made)
    made = re.sub(r' (?:role|aria-roledescription|aria-hidden|pointer-events)="[^"]*"', "", made)
    made = re.sub(r'(<(?:g|text|svg)\b[^>]*?) aria-label="[^"]*"', r"\1", made)
    made = made.replace(' aria-label="', ' data-says="')
    made = made.replace(f'xlink:href="{BASE}', 'tabindex="-1" href="')
    made = re.sub(
        r'(<a tabindex="-1" )([^>]*><\w+ data-says="([^"]*)")', r'\1aria-label="\3" \2', made
    )
    made = re.sub(r'<path class="(?:back|fore)ground"[^>]*d=""[^>]*/>', "", made)
    made = re.sub(r' (?:d|transform|x2|y2|width|height)="[^"]*"', shortened, made)
    start = re.match(r'<svg[^>]*?width="([\d.]+)" height="([\d.]+)"[^>]*>', made)
    assert start is not None
    width, height = start[1], start[2]
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" style="max-width:{float(width):.0f}px" '
        f'role="group" aria-label="{html.escape(name)}">{made[start.end() :]}'
    )


def shortened(coordinates: re.Match[str]) -> str:
    """To a hundredth of a pixel."""
    return re.sub(r"(-?\d+\.\d\d)\d+", r"\1", coordinates[0])
