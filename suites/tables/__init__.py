"""One file per kind of table; each turns the records of its suites into a `Sheet`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from suites.records.record import ResultFile
from suites.registry import SUITES, named
from suites.tables.whole import whole

if TYPE_CHECKING:
    from suites.tables.sheet import Sheet


def made_by(function: str) -> Callable[[list[ResultFile]], list[Sheet]]:
    """A line of the registry; raises UserError for records without what the table needs."""

    def sheets(files: list[ResultFile]) -> list[Sheet]:
        with whole(files):
            return named("tables", function)(files)

    return sheets


# suite → the tables made of all its result files of one profile
TABLES = {name: made_by(suite.sheets) for name, suite in SUITES.items() if suite.sheets}
