"""Regenerate the tables and the schema in results/ from its records, or check that they agree.

Exit status: 1 when --check finds a difference, else those of every verb.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from suites.errors import UserError
from suites.records import schema
from suites.records.generated import agree, write_all
from suites.records.places import PLACE
from suites.records.record import ResultFile
from suites.records.store import RESULTS, Store
from suites.registry import PAPER_SUITES
from suites.tables import TABLES

if TYPE_CHECKING:
    from suites.tables.sheet import Sheet

# Suites whose tables a paper would print.
PAPER = {"claims", "verdict", *PAPER_SUITES}


@click.command(name="tables", help=__doc__)
@click.option("--check", is_flag=True, help="write nothing; exit 1 when a committed file differs")
@click.option("--results", type=PLACE, default=RESULTS, help="folder of results")
def command(check: bool, results: Path) -> int:
    from suites.tables.readme import with_tables

    store = Store(results)
    sheets = dict(sheets_of(store))
    if not sheets:
        raise UserError(
            f"no records under {results / 'records'}; make some with `python -m suites run`"
        )
    rendered = {results / schema.FILE: schema.schema_text()}
    for name, sheet in sheets.items():
        rendered[results / "tables" / f"{name}.md"] = sheet.markdown()
        rendered[results / "tables" / f"{name}.csv"] = sheet.csv()
        if name.partition("-")[0] in PAPER:
            rendered[results / "tables" / f"{name}.tex"] = sheet.latex()
    for page in (results.parent / "README.md", *sorted((results.parent / "docs").glob("*.md"))):
        if page.exists():
            rendered[page] = with_tables(page.read_text(encoding="utf-8"), sheets)
    contents = {path: text.encode() for path, text in rendered.items()}
    if check:
        return agree(contents, (results / "tables").glob("*"), "tables")
    write_all(contents)
    return 0


def sheets_of(store: Store) -> Iterator[tuple[str, "Sheet"]]:
    """(SUITE-PROFILE-NAME, table) of everything that the records of `store` give."""
    for parts, sheet in tables_of(store):
        yield "-".join(filter(None, parts)), sheet


def tables_of(store: Store) -> Iterator[tuple[tuple[str, str, str], "Sheet"]]:
    """The same by suite, profile and name."""
    from suites.paper import claims, verdict

    groups: dict[tuple[str, str], list[ResultFile]] = {}
    for _, results in store.files("records"):
        if results.suite in TABLES:
            groups.setdefault((results.suite, results.profile), []).append(results)
    for (suite, profile), files in groups.items():
        for sheet in TABLES[suite](files):
            yield (suite, profile, sheet.name), sheet
    for profile in dict.fromkeys(profile for suite, profile in groups if suite in claims.SUITES):
        judged = {suite: files for (suite, own), files in groups.items() if own == profile}
        words = claims.sheet(profile, judged)
        if set(words.frame["verdict"]) != {claims.NOT_RUN}:
            yield ("claims", profile, ""), words
        if (lines := verdict.sheet(profile, judged)) is not None:
            yield ("verdict", profile, ""), lines
