"""The paper's claims, and those of later methods, by verdict."""

from collections.abc import Iterator, Mapping

from suites.report.grid import of_sheet
from suites.report.sources import Sources
from suites.report.view import View
from suites.tables.sheet import Sheet

COLUMNS = ("claim", "source", "verdict", "ours", "low", "high", "paper", "unit", "seeds", "suite")
FOUR = "agrees, disagrees, undecided, or not testable at this scale"


def view(sources: Sources, sheets: Mapping[tuple[str, str, str], Sheet]) -> Iterator[View]:
    grids = []
    for (suite, profile, _), sheet in sheets.items():
        if suite != "claims":
            continue

        def link(row, profile=profile):
            return sources.linker(row["suite"], profile)({"commit": row["commit"]})

        grids.append(of_sheet(f"claims-{profile}", sheet, link, COLUMNS))
    if grids:
        yield View(
            "claims",
            "Claims",
            "The paper's claims",
            f"Every testable sentence of the paper, judged in four words: {FOUR}.",
            grids,
        )
