"""Judge the paper's claims on records: what each sentence says, what we measured, and the verdict.

Exit status: 0 whatever the verdicts are; `compare paper HEAD` has one for them.
"""

from collections.abc import Iterable
from pathlib import Path

import click

from suites.errors import UserError
from suites.output import say
from suites.records.places import PLACE
from suites.records.record import ResultFile
from suites.records.store import RESULTS, Store


@click.command(name="claims", help=__doc__)
@click.option("--profile", default="tiny", show_default=True, help="whose records are judged")
@click.option(
    "--scratch", is_flag=True, help="judge what this code made here, not what is committed"
)
@click.option("--wide", is_flag=True, help="print all columns")
@click.option("--results", type=PLACE, default=RESULTS, help="folder of results")
def command(profile: str, scratch: bool, wide: bool, results: Path) -> None:
    from suites.paper import claims

    store = Store(results)
    files = made(store, profile) if scratch else committed(store, profile)
    if not files:
        place = results / ("scratch" if scratch else "records")
        raise UserError(
            f"no records of profile {profile} under {place} that a claim rests on; make some with: "
            f"python -m suites paper --profile {profile}"
        )
    sheet = claims.sheet(profile, files)
    say(sheet.printed(wide), **sheet.data())


def committed(store: Store, profile: str) -> dict[str, list[ResultFile]]:
    """Suite → its committed files of `profile`."""
    from suites.paper import claims

    return by_suite(
        file
        for suite in claims.SUITES
        for _, file in store.files("records", f"{suite}-{profile}/*.json")
    )


def made(store: Store, profile: str) -> dict[str, list[ResultFile]]:
    """Suite → what this code made of `profile` on this machine."""
    from suites.measure.environment import code, environment
    from suites.paper import claims

    where = code(), environment()
    folders = (store.scratch(suite, profile, *where) for suite in claims.SUITES)
    pattern = (folder.relative_to(store.root / "scratch") / "records.json" for folder in folders)
    return by_suite(file for one in pattern for _, file in store.files("scratch", str(one)))


def by_suite(files: Iterable[ResultFile]) -> dict[str, list[ResultFile]]:
    found: dict[str, list[ResultFile]] = {}
    for file in files:
        found.setdefault(file.suite, []).append(file)
    return found
