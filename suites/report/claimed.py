"""The paper's claims by verdict."""

from collections.abc import Mapping
from functools import partial

from suites.paper.claims import NOT_RUN, NOT_TESTABLE
from suites.report.grid import Grid, of_sheet
from suites.report.sources import Row, Sources
from suites.report.view import View
from suites.tables.sentences import listed
from suites.tables.sheet import Sheet

COLUMNS = ("claim", "source", "verdict", "ours", "low", "high", "paper", "unit", "seeds", "suite")
FOUR = ("agrees", "disagrees", "undecided", NOT_TESTABLE)
WORDS = (*FOUR, NOT_RUN)


def view(sources: Sources, sheets: Mapping[tuple[str, str, str], Sheet]) -> View | None:
    """A table per profile; None where no claim was judged."""
    grids = [
        of_sheet(
            f"claims-{profile}",
            by_verdict(sheet),
            partial(record, sources, profile),
            COLUMNS,
            lambda row: sources.publication(row["suite"]),
        )
        for (suite, profile, _), sheet in sheets.items()
        if suite == "claims"
    ]
    if not grids:
        return None
    counts = "; in ".join(f"profile {grid.title.split()[-1]}: {counted(grid)}" for grid in grids)
    lead = f"Every testable sentence, judged in four words: {', '.join(FOUR)}. In {counts}."
    return View("claims", "Claims", "The paper's claims", lead, grids)


def by_verdict(sheet: Sheet) -> Sheet:
    """In the order of the words; claims of one word stay in the paper's order."""
    rank = sheet.frame["verdict"].map(lambda verdict: WORDS.index(verdict.split(" (")[0]))
    frame = sheet.frame.loc[rank.sort_values(kind="stable").index].reset_index(drop=True)
    return sheet.model_copy(update={"frame": frame})


def record(sources: Sources, profile: str, row: Row) -> str | None:
    """That a claim is judged on."""
    return sources.linker(row["suite"], profile)({"commit": row["commit"]})


def counted(grid: Grid) -> str:
    """How often each word was said."""
    column = grid.columns.index("verdict")
    words = [str(line.cells[column]).split(" (")[0] for line in grid.rows]
    return listed([f"{words.count(word)} {word}" for word in WORDS if word in words])
