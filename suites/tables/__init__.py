"""One file per kind of table; each turns the records of its suites into a `Sheet`."""

from collections.abc import Callable

from suites.records.record import ResultFile
from suites.registry import SUITES, named
from suites.tables.sheet import Sheet
from suites.tables.whole import whole


def made_by(function: str) -> Callable[[list[ResultFile]], list[Sheet]]:
    """A line of the registry; raises UserError for records without what the table needs."""
    make = named("tables", function)

    def sheets(files: list[ResultFile]) -> list[Sheet]:
        with whole(files):
            return make(files)

    return sheets


# suite → the tables made of all its result files of one profile
TABLES = {name: made_by(suite.sheets) for name, suite in SUITES.items() if suite.sheets}
