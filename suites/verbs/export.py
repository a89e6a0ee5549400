"""Write every recorded number as one long table, Parquet and CSV, with a dataset card.

The JSON records stay what is true; this is a copy for pandas, datasets, DuckDB or a spreadsheet.
"""

import io
from pathlib import Path

import click

from suites.errors import UserError
from suites.output import say
from suites.records.commits import Repository
from suites.records.places import PLACE
from suites.records.store import RESULTS, Store, write_bytes, write_text


@click.command(name="export", help=__doc__)
@click.option(
    "--to",
    type=PLACE,
    default="dist/results",
    show_default=True,
    help="folder of the files",
)
@click.option("--results", type=PLACE, default=RESULTS, help="folder of results")
def command(to: Path, results: Path) -> None:
    from suites.tables.long import card, long

    store, repository = Store(results), Repository(results.parent)
    files = [file for kind in ("records", "published") for _, file in store.files(kind)]
    if not files:
        raise UserError(
            f"no records under {results / 'records'}; make some with `python -m suites run`"
        )
    frame = long(files, lambda commit: repository.git("show", "-s", "--format=%cI", commit, "--"))
    table = io.BytesIO()
    frame.to_parquet(table, index=False)
    write_bytes(to / "results.parquet", table.getvalue())
    write_text(to / "results.csv", frame.to_csv(index=False, lineterminator="\n"))
    write_text(to / "README.md", card(frame))
    say(
        f"wrote {len(frame):,} rows of {len(files)} record files to {to}",
        wrote=str(to),
        rows=len(frame),
        record_files=len(files),
    )
