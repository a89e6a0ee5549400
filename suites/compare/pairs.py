"""Which record files of two sides belong together, and what keeps their numbers apart."""

from dataclasses import dataclass
from itertools import product

from suites.errors import UserError
from suites.records.cells import differences
from suites.records.record import ResultFile


@dataclass
class Pair:
    """The files of one suite and profile on both sides."""

    base: ResultFile
    head: ResultFile

    def name(self) -> str:
        return f"{self.base.suite} {self.base.profile}"

    def unlike(self) -> str:
        """Differences of machine and versions; empty where time and bytes compare."""
        if self.base.environment is None or self.head.environment is None:
            return "a publication has no machine"
        return "; ".join(
            differences(
                self.base.environment.model_dump(mode="json"),
                self.head.environment.model_dump(mode="json"),
            )
        )

    def same_record(self) -> bool:
        return self.base == self.head

    def same_code(self) -> bool:
        base, head = self.base.code, self.head.code
        return base is not None and head is not None and base.sha256 == head.sha256


def pairs(base: list[ResultFile], head: list[ResultFile]) -> list[Pair]:
    """Files of equal machines; else the only two files there are; else an error."""
    every = [Pair(b, h) for b, h in product(base, head)]
    if like := [pair for pair in every if not pair.unlike()]:
        return like
    if len(every) == 1:
        return every
    raise UserError(
        f"{every[0].name()} was measured on several machines, none of them on both sides "
        f"({len(base)} and {len(head)} record files); name two record files instead of commits"
    )
