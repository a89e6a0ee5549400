"""Move a complete run of a clean commit from scratch to results/records.

RUN is the folder in results/scratch that `python -m suites run` named when it ended.
"""

from pathlib import Path

import click

from suites.errors import UserError
from suites.output import say
from suites.records.places import PLACE
from suites.records.store import RESULTS, Store, publish, read
from suites.registry import load
from suites.tables.whole import whole


@click.command(name="publish", help=__doc__)
@click.argument("run", type=PLACE)
@click.option("--results", type=PLACE, default=RESULTS, help="folder of results")
def command(run: Path, results: Path) -> int:
    files = [read(path) for path in sorted(run.glob("*.json"))]
    if not files:
        raise UserError(
            f"{run} holds no records; `python -m suites run` names a folder when it ends"
        )
    with whole(files):
        wanted = load(files[0].suite).planned(files[0].profile, files)
    written = publish(Store(results), files, wanted)
    say(f"wrote {written}", wrote=str(written))
    say("rebuild the tables with: python -m suites tables")
    return 0
