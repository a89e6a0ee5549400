"""Write results/report/, static pages of all records: verdict, tables, figures, claims, speed, history.

Open its index.html in any browser; it needs no server and no network.
"""

import shutil
from pathlib import Path

import click

from suites.errors import UserError
from suites.output import say
from suites.records.commits import Repository
from suites.records.places import PLACE
from suites.records.store import RESULTS, Store, write_bytes
from suites.verbs.tables import tables_of


@click.command(name="report", help=__doc__)
@click.option("--results", type=PLACE, default=RESULTS, help="folder of results")
def command(results: Path) -> None:
    from suites.report.site import site

    store, repository = Store(results), Repository(results.parent)
    sheets = dict(tables_of(store))
    if not sheets:
        raise UserError(
            f"no records under {results / 'records'}; make some with `python -m suites run`"
        )
    pages, folder = site(store, repository, sheets), results / "report"
    shutil.rmtree(folder, ignore_errors=True)  # a page whose record is gone must not stay
    for path, content in pages.items():
        write_bytes(folder / path, content)
    start = folder / "index.html"
    say(f"wrote {len(pages)} files; open {start}", wrote=str(start), files=len(pages))
