"""Numbers over the commits that have records, and where a new level begins."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from suites.compare.history import change_points, default_metric
from suites.errors import UserError
from suites.records.commits import Repository
from suites.records.names import labels
from suites.records.quantity import quantity
from suites.report import charts
from suites.report.grid import of_rows
from suites.report.sources import Sources, shown
from suites.report.stations import Station, chains
from suites.report.view import Chart, Note, View
from suites.tables.sentences import listed

TITLE = "Numbers over commits"
LEAD = (
    "What each suite is run for, over the commits that have its records; times and memory of the newest "
    "machine only. A change point is where a new level begins (PELT)."
)
MOST_CHARTS = 6  # more are in the table


def view(sources: Sources, repository: Repository) -> View:
    found = [line for chain in chains(sources) for line in lines(chain)]
    if not found:
        none = "No number has been recorded at two commits yet, so there is no history."
        return View("history", "History", TITLE, LEAD, [Note(none)])
    drawn = [line for line in found if line["starts"]]
    few = "No number has a change point; one needs four commits." if not drawn else ""
    return View(
        "history",
        "History",
        TITLE,
        LEAD,
        [
            *([Note(few)] if few else []),
            *(chart(line) for line in drawn[:MOST_CHARTS]),
            of_rows(
                "levels", "Every number", map(told, found), [line["links"][-1] for line in found]
            ),
        ],
    )


def lines(chain: list[Station]) -> Iterator[dict[str, Any]]:
    """One per cell of the newest record that has its number at two commits or more."""
    newest = chain[-1].newest
    named = labels(newest.cells)
    for key, name in named.items():
        try:
            metric = default_metric(newest.cells[key])
        except UserError:  # nothing of it finished
            continue
        what = quantity(metric)
        alone = what is not None and what.needs_like_machines
        points = [
            (station, source, float(np.mean(list(values.values()))))
            for station in chain
            for source in station.sources
            if not alone or source.file.environment == newest.file.environment
            if (cell := source.cells.get(key)) and (values := cell.values(metric))
        ]
        if len({station.commit for station, _, _ in points}) > 1:
            level = [value for _, _, value in points]
            yield {
                "suite": f"{newest.file.suite} {newest.file.profile}",
                "cell": name,
                "metric": metric,
                "commits": [station.name for station, _, _ in points],
                "values": level,
                "links": [source.cell(key) for _, source, _ in points],
                "starts": change_points(np.array(level)),
            }


def chart(line: dict[str, Any]) -> Chart:
    title = f"{line['suite']}, {line['cell']}: {line['metric']}"
    rows = pd.DataFrame(
        {
            "commit": line["commits"],
            "value": line["values"],
            "link": [charts.BASE + link for link in line["links"]],
            "says": [
                f"{commit}: {shown(value)}"
                for commit, value in zip(line["commits"], line["values"], strict=True)
            ],
        }
    )
    starts = rows.iloc[line["starts"]]
    return Chart(
        title,
        f"New levels begin at {listed(list(starts['commit']))}.",
        charts.svg(charts.levels(rows, starts, line["metric"]), title),
    )


def told(line: dict[str, Any]) -> dict[str, Any]:
    oldest, newest = line["values"][0], line["values"][-1]
    return {
        "suite": line["suite"],
        "cell": line["cell"],
        "metric": line["metric"],
        "commits": (float(len(line["commits"])), str(len(line["commits"]))),
        "oldest": (oldest, shown(oldest)),
        "newest": (newest, shown(newest)),
        "change": (newest / oldest - 1, f"{newest / oldest - 1:+.2%}") if oldest else "–",
        "new levels at": ", ".join(line["commits"][start] for start in line["starts"]) or "–",
    }
