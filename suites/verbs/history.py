"""One number over commits: table, plot, change points, and which commit to measure next.

--case is a name as `compare` prints it, or a part that only one cell has.
"""

from pathlib import Path

import click

from suites.output import say, within
from suites.records.commits import Repository
from suites.records.places import PLACE
from suites.records.store import RESULTS, Store


@click.command(name="history", help=__doc__)
@click.option("--suite", required=True, help="whose records; `python -m suites list` names them")
@click.option("--case", required=True, help="a cell, or part of its name")
@click.option(
    "--metric", help="default: validation loss, median time or FLOPs, whichever the cell has"
)
@click.option("--head", default="HEAD", show_default=True, help="the newest commit to look at")
@click.option("--results", type=PLACE, default=RESULTS, help="folder of results")
def command(suite: str, case: str, metric: str | None, head: str, results: Path) -> int:
    from suites.compare.history import bisect_help, history, plot
    from suites.figures import save

    store, repository = Store(results), Repository(results.parent)
    found = history(store, repository, suite, case, metric, repository.resolve(head))
    starts = found.changes
    rows = [
        [
            point.commit[:12],
            repository.subject(point.commit)[:60],
            f"{point.value:.6g}",
            f"{point.value / found.points[number - 1].value - 1:+.2%}" if number else "",
            "changed" if number in starts else "",
        ]
        for number, point in enumerate(found.points)
    ]
    headers = ["commit", "subject", found.metric, "step", ""]
    points = [
        {"commit": point.commit, "value": point.value, "changed": number in starts}
        for number, point in enumerate(found.points)
    ]
    text = f"{found.title}\n\n{within(headers, rows)}"
    say(text, title=found.title, metric=found.metric, points=points)
    for line in [*found.notes, *(bisect_help(found, repository) or ["no change point"])]:
        say(f"- {line}", note=line)
    folder = results / "scratch" / "history"
    folder.mkdir(parents=True, exist_ok=True)
    name = "".join(c if c.isalnum() else "-" for c in f"{suite}-{case}-{found.metric}")
    for path in save(plot(found), folder / name):
        say(f"wrote {path}", wrote=str(path))
    return 0
