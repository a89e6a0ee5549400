"""Times, the roof they are seen under, and memory."""

from collections.abc import Callable, Iterator, Mapping

import pandas as pd

from suites.figures.speed import SHAPE, UNITS, along_one, flat, stated, under_roof
from suites.records.names import CONTROLS
from suites.registry import SPEED_SUITES
from suites.report import charts
from suites.report.grid import Grid, of_sheet
from suites.report.sources import Row, Source, Sources
from suites.report.view import Chart, Note, View
from suites.tables.sheet import Sheet
from suites.tables.speed import group_name, row_name

COLUMNS = (
    "group",
    "row",
    "median ms",
    "q1 ms",
    "q3 ms",
    "× dense",
    "× best",
    "× floor",
    "peak MiB",
    "status",
    "run",
)
NO_GPU = (
    "No record is of a GPU: every time here is of a CPU, and no speed is claimed for the GPU kernels. "
    "On a machine that has one, nox -s gpu measures them."
)
GIGA = 1e9


def view(sources: Sources, sheets: Mapping[tuple[str, str, str], Sheet]) -> View | None:
    """A table per suite and profile, and the charts that its newest record gives."""
    blocks: list = [] if sources.gpus else [Note(NO_GPU)]
    for (suite, profile, _), sheet in sheets.items():
        if suite in SPEED_SUITES:
            own = sources.of(suite, profile)
            blocks += drawn(own[-1])
            blocks.append(newest_cells(f"{suite}-{profile}", sheet, own))
    if not any(not isinstance(block, Note) for block in blocks):
        return None
    lead = "A point says its value and leads to its cell, with every sample. Ratios are within one run."
    return View("speed", "Speed", "Time and memory", lead, blocks)


def newest_cells(name: str, sheet: Sheet, own: list[Source]) -> Grid:
    """Of the newest run; the pages of records hold the others, and the history compares them."""
    code = own[-1].file.code
    assert code is not None
    rows = sheet.frame["run"].str.startswith((code.commit or "")[:8])
    newest = sheet.model_copy(update={"frame": sheet.frame[rows].reset_index(drop=True)})
    grid = of_sheet(name, newest, linker(own), COLUMNS)
    return grid.model_copy(update={"title": f"{sheet.title}: every cell"})


def linker(own: list[Source]) -> Callable[[Row], str | None]:
    """From a row of the table to its cell."""
    found = {}
    for source in own:
        for key, cell in source.cells.items():
            control = cell.case["layer"] in CONTROLS
            group = "controls" if control else group_name(cell.case)
            assert source.file.code is not None
            commit = (source.file.code.commit or "")[:8]
            found[commit, group, row_name(cell.case | {"repeat": 0})] = source.cell(key)

    def link(row: Row) -> str | None:
        commit = str(row["run"]).split(" ")[0]
        return found.get((commit, row["group"], str(row["row"]).removesuffix(" again")))

    return link


def drawn(source: Source) -> Iterator[Chart]:
    """Time and memory along a size, and the roofline, where the record has them."""
    rows = pd.DataFrame(
        [
            flat(source.file, record) | {"link": source.cell(key)}
            for key, cell in source.cells.items()
            for record in cell.finished[:1]
        ]
    )
    if rows.empty or (rows := rows[~rows["layer"].isin(CONTROLS)]).empty:
        return
    title = rows["title"].iloc[0]
    for along, value in (("tokens", "median_s"), ("experts", "median_s"), ("tokens", "peak_bytes")):
        plain, point, phases = along_one(rows, along)
        if not phases:
            continue
        name, unit = UNITS[value]
        shown = plain[plain[value].notna()]
        points = [
            {
                "label": row["row"],
                "phase": row["phase"],
                "x": row[along],
                "value": row[value] / unit,
                "says": said(row, f"{along} {row[along]:,}"),
                "link": row["link"],
            }
            for _, row in shown.iterrows()
        ]
        head = f"{name.split(' (')[0].capitalize()} against {along}: {title}"
        chart = charts.scaling(charts.rows_of(points), phases, f"{along} {SHAPE[along]}", name)
        yield Chart(head, f"At {stated(point)}, uniform routing.", charts.svg(chart, head))
    if (found := under_roof(rows)) is not None:
        under, ends, roof = found
        points = [
            {
                "label": row["layer"],
                "intensity": row["flops"] / row["bytes_moved"],
                "speed": row["flops_per_s"] / GIGA,
                "says": said(row, f"{row['flops_per_s'] / GIGA:,.4g} GFLOP/s"),
                "link": row["link"],
            }
            for _, row in under.iterrows()
            if row["flops"]
        ]
        head = f"Roofline: {title}"
        corners = pd.DataFrame({"intensity": ends, "speed": roof})
        chart = charts.roofline(charts.rows_of(points), corners)
        caption = "The line is what a copy and a GEMM of the same run reached."
        yield Chart(head, caption, charts.svg(chart, head))


def said(row: pd.Series, also: str) -> str:
    memory = (
        "" if pd.isna(row["peak_bytes"]) else f", {row['peak_bytes'] / 2**20:,.1f} MiB at its peak"
    )
    return (
        f"{row['row']}, {row['phase'].replace('_', ' ')}, T {row['tokens']:,}, N {row['experts']:,}: "
        f"{row['median_s'] * 1e3:,.4g} ms ({row['quartile1_s'] * 1e3:,.4g} … "
        f"{row['quartile3_s'] * 1e3:,.4g}), {also}{memory}"
    )
