"""Compare the records of two commits, of two files, or of the paper and a commit."""

from pathlib import Path

import click

from suites.compare.findings import compare
from suites.compare.paper import compare_paper
from suites.compare.rendering import FORMATS, Format, render
from suites.compare.sides import PAPER, side
from suites.compare.verdict import exit_status
from suites.errors import UserError
from suites.records.commits import Repository
from suites.records.store import RESULTS, Store


@click.command(name="compare", help=__doc__)
@click.argument("base")
@click.argument("head")
@click.option("--suite", help="only this suite")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option(
    "--results", type=click.Path(path_type=Path), default=RESULTS, help="folder of results"
)
def command(base: str, head: str, suite: str | None, form: Format, results: Path) -> int:
    """BASE and HEAD are each a commit, tag, branch or record file; BASE may be `paper`.

    Exit status: 0 nothing slower, 1 slower, worse, failed or removed, 2 usage, 3 undecided or
    invalid, 4 nothing measured.
    """
    if head == PAPER:
        raise UserError("the paper is a BASE: python -m suites compare paper HEAD")
    store, repository = Store(results), Repository(results.resolve().parent)
    ours = side(base, store, repository, "table1" if base == PAPER else suite)
    theirs = side(head, store, repository, suite)
    rows = (compare_paper if base == PAPER else compare)(ours, theirs)
    click.echo(render(rows, [*ours.notes, *theirs.notes], form))
    return exit_status(rows)
