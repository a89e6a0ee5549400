"""All pages of the report, by their path in its folder: an index in views, and a page for each record."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from suites.figures.style import METHODS
from suites.paper import verdict
from suites.records.commits import Repository
from suites.records.store import Store, text
from suites.registry import SPEED_SUITES
from suites.report import artefacts, charts, levels, neighbours, speed, trade
from suites.report.citation import bibtex
from suites.report.claimed import view as claimed
from suites.report.grid import of_rows, of_sheet
from suites.report.headline import Sense, answer, powers, scale, senses
from suites.report.record import page
from suites.report.sources import Source, Sources, machine, word
from suites.report.templates import template
from suites.report.view import Chart, View
from suites.tables.sheet import Sheet

HERE = Path(__file__).parent
VENDOR = ("tabulator.min.js", "tabulator_simple.min.css", "TABULATOR_LICENSE")
OWN = ("report.css", "report.js")
MOST_ROWS = 500  # of a table on the first page; a longer one shows its newest commit
Sheets = Mapping[tuple[str, str, str], Sheet]  # by suite, profile and name


def site(store: Store, repository: Repository, sheets: Sheets) -> dict[str, bytes]:
    """`sheets` are the tables of the store."""
    sources = Sources(store, repository)
    files = {name: (HERE / "vendor" / name).read_bytes() for name in VENDOR}
    files |= {name: (HERE / "templates" / name).read_bytes() for name in OWN}
    files["index.html"] = index(sources, repository, sheets).encode()
    for source in sources:
        files[source.page] = page(source).encode()
        files[source.path.as_posix()] = text(source.file).encode()
    return files


def index(sources: Sources, repository: Repository, sheets: Sheets) -> str:
    commit = repository.head()
    found = senses(sources)
    verdict_blocks = [forest(found)] if found else []
    largest = {suite: sources.scale_of(suite) for suite, _, _ in sheets}
    shown = {
        (suite, name): sheet
        for (suite, profile, name), sheet in sheets.items()
        if profile == largest[suite]
    }
    views = [
        artefacts.view(sources, shown),
        trade.view(sources),
        claimed(sources, sheets),
        speed.view(sources, sheets),
        neighbours.view(sources, repository),
        levels.view(sources, repository),
        *rest(sources, sheets, largest),
        every_record(sources),
    ]
    return template("index.html").render(
        title="PEER, measured",
        senses=found,
        answer=answer(found),
        scale=scale(found) if found else "",
        times=step_times(sources),
        views=[view for view in views if view is not None],
        gpus=sources.gpus,
        records=len(sources.measured),
        commit=commit,
        bibtex=bibtex(commit),
        verdict_blocks=verdict_blocks,
    )


def step_times(sources: Sources) -> list[dict[str, str]]:
    """PEER's time of a training step over each method's, as the verdict has them."""
    profile = sources.scale_of(verdict.SPEED)
    if profile is None:
        return []
    own = sources.of(verdict.SPEED, profile)
    return [
        {
            "name": METHODS[method][0],
            "ratio": f"{ratio:.2f} ×",
            "word": "slower" if ratio > 1 else "faster",
            "link": own[-1].of([word("layer", f"peer|{method}"), word("phase", "training_step")]),
        }
        for method, ratio in verdict.step_times(own[-1].file).items()
    ]


def forest(found: list[Sense]) -> Chart:
    rows = [
        {
            "label": gap.method,
            "held": powers(f"at {sense.line.held}"),
            "mean": gap.found.mean,
            "low": gap.found.mean if gap.found.low is None else gap.found.low,
            "high": gap.found.mean if gap.found.high is None else gap.found.high,
            "says": powers(
                f"PEER less {gap.name} at {sense.line.held}: {gap.shown} ({gap.interval}) nats, "
                f"{gap.found.seeds} seeds"
            ),
            "link": gap.link,
        }
        for sense in found
        for gap in sense.gaps
    ]
    title = "All differences on one scale"
    return Chart(
        title, "Bars are 95 % intervals.", charts.svg(charts.forest(charts.rows_of(rows)), title)
    )


def rest(sources: Sources, sheets: Sheets, largest: Mapping[str, str | None]) -> Iterator[View]:
    """Every table that no other view shows, folded; beside the paper stand the `largest` profiles."""
    grids = []
    for (suite, profile, name), sheet in sheets.items():
        beside_the_paper = profile == largest[suite] and (suite, name) in artefacts.TABLES
        if not beside_the_paper and suite not in (*SPEED_SUITES, "claims", "verdict"):
            id = "-".join(filter(None, (suite, profile, name)))
            made = of_sheet(
                id, newest(sheet, sources.of(suite, profile)), sources.linker(suite, profile)
            )
            grids.append(made.model_copy(update={"folded": True}))
    if grids:
        yield View(
            "tables",
            "More",
            "Other tables",
            "Every point, ablations, budgets, tuning and kernels.",
            grids,
        )


def newest(sheet: Sheet, own: Sequence[Source]) -> Sheet:
    """A long table without the rows of older commits, which stand on the pages of their records."""
    frame = sheet.frame
    if len(frame) <= MOST_ROWS or "commit" not in frame or not own or not own[-1].file.code:
        return sheet
    commit = (own[-1].file.code.commit or "")[:12]
    rows = frame[frame["commit"].str.startswith(commit)].reset_index(drop=True)
    left_out = f"{len(frame) - len(rows):,} rows of older commits are on the pages of their records"
    return sheet.model_copy(update={"frame": rows, "notes": [*sheet.notes, left_out]})


def every_record(sources: Sources) -> View:
    rows, links = [], []
    for one in sources:
        file, found = one.file, one.cells
        rows.append(
            {
                "suite": file.suite,
                "profile": file.profile,
                "cells": (float(len(found)), f"{len(found):,}"),
                "results": (float(len(file.records)), f"{len(file.records):,}"),
                "failed": (float(n := sum(r.status != "ok" for r in file.records)), str(n)),
                "commit": file.code.commit[:12] if file.code and file.code.commit else "published",
                "machine": machine(file),
                "stands": f"until {one.removed_by[:12]}" if one.removed_by else "yes",
            }
        )
        links.append(one.page)
    grid = of_rows("every-record", "Every record", rows, links)
    return View(
        "records",
        "Records",
        "Every record",
        "What every number rests on: one file per suite, machine and commit.",
        [grid],
    )
