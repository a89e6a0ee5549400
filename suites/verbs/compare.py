"""Compare the records of two commits or of two files, or judge the paper's claims on those of one.

BASE and HEAD are each a commit, tag, branch or record file. With `paper` as BASE, every claim of the
paper that the records of HEAD bear on is judged.

Exit status: 0 nothing slower, 1 slower, worse, failed, removed or disagreeing, 2 usage,
3 undecided or invalid, 4 nothing measured, 70 a fault of the suite.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from suites.compare.sides import PAPER, Side, notes, side
from suites.errors import UserError
from suites.output import FORMATS, Format, say
from suites.records.commits import Repository
from suites.records.places import PLACE
from suites.records.store import RESULTS, Store
from suites.verbs.claims import by_suite

if TYPE_CHECKING:
    from suites.tables.sheet import Sheet


@click.command(name="compare", help=__doc__)
@click.argument("base")
@click.argument("head")
@click.option("--suite", help="only this suite")
@click.option("--only-changed", is_flag=True, help="leave out rows where nothing changed")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("--results", type=PLACE, default=RESULTS, help="folder of results")
def command(
    base: str, head: str, suite: str | None, only_changed: bool, form: Format, results: Path
) -> int:
    from suites.compare.findings import compare
    from suites.compare.rendering import render
    from suites.compare.verdict import exit_status

    if head == PAPER:
        raise UserError("the paper is a BASE: python -m suites compare paper HEAD")
    store, repository = Store(results), Repository(results.parent)
    if base == PAPER:
        return judge(side(head, store, repository, suite), form)
    ours, theirs = (side(given, store, repository, suite) for given in (base, head))
    rows = compare(ours, theirs)
    remarks = notes(ours, theirs)
    found = [row.model_dump() for row in rows]
    say(render(rows, remarks, form, only_changed), notes=remarks, rows=found)
    return exit_status(rows)


def judge(found: Side, form: Format) -> int:
    """Prints a verdict per claim that the records of `found` bear on."""
    from suites.paper import claims

    files = [file for file in found.files if file.suite in claims.SUITES]
    if not files:
        has = ", ".join(sorted({file.suite for file in found.files}))
        raise UserError(
            f"{found.given} has no records that a claim of the paper rests on; it has {has}. Such are "
            f"made by: python -m suites paper"
        )
    verdicts: list[str] = []
    for profile in sorted({file.profile for file in files}):
        own = by_suite(file for file in files if file.profile == profile)
        sheet = claims.sheet(profile, own, only=own)
        say(shown(sheet, form), **sheet.data())
        verdicts += list(sheet.frame["verdict"])
    if form in ("table", "markdown"):
        for note in notes(found):
            say(f"- {note}", note=note)
    return verdict_status(verdicts)


def shown(sheet: "Sheet", form: Format) -> str:
    if form == "json":
        body = {name: sheet.data()[name] for name in ("notes", "rows")}
        return json.dumps(body, indent=1, ensure_ascii=False)
    return sheet.csv().rstrip("\n") if form == "csv" else sheet.printed(wide=form == "markdown")


def verdict_status(verdicts: list[str]) -> int:
    """0 all agree, 1 one disagrees, 3 one is open."""
    words = {verdict.partition(" (")[0] for verdict in verdicts}
    return 1 if "disagrees" in words else 3 if words - {"agrees", "not run"} else 0
