"""One file per kind of table; each turns the records of its suites into a `Sheet`."""

from collections.abc import Callable

from suites.records.record import ResultFile
from suites.registry import SUITES, named
from suites.tables.sheet import Sheet

# suite → the tables made of all its result files of one profile
TABLES: dict[str, Callable[[list[ResultFile]], list[Sheet]]] = {
    name: named("tables", suite.sheets) for name, suite in SUITES.items() if suite.sheets
}
