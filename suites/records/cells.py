"""The cells of a result file: its records without their seeds, with a short name for each."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import JsonValue

from suites.errors import UserError
from suites.records.record import Record, ResultFile, digest

# Fields of a case that tell repetitions of one measurement apart.
REPETITIONS = ("seed", "repeat")


@dataclass
class Cell:
    """Repetitions of one case; `records` by seed and repeat."""

    case: dict[str, JsonValue]
    records: dict[tuple[JsonValue, ...], Record] = field(default_factory=dict)

    @property
    def finished(self) -> list[Record]:
        return [record for record in self.records.values() if record.status == "ok"]

    def failures(self) -> str:
        """Statuses and reasons of the repetitions that did not finish."""
        failed = [record for record in self.records.values() if record.status != "ok"]
        return "; ".join(sorted({f"{record.status}: {record.reason}" for record in failed}))

    def is_all(self, status: str) -> bool:
        return all(record.status == status for record in self.records.values())

    def values(self, metric: str) -> dict[tuple[JsonValue, ...], float]:
        """The metric of every finished repetition that has it as a number."""
        return {
            key: float(value)
            for key, record in self.records.items()
            if record.status == "ok"
            and isinstance(value := record.metrics.get(metric), int | float)
        }


def cells(file: ResultFile) -> dict[str, Cell]:
    """Cells by the digest of their case."""
    found: dict[str, Cell] = {}
    for record in file.records:
        case = {name: value for name, value in record.case.items() if name not in REPETITIONS}
        repetition = tuple(record.case.get(name) for name in REPETITIONS)
        cell = found.setdefault(digest(case), Cell(case))
        if repetition in cell.records:
            raise UserError(f"{file.suite} {file.profile} has two records of one case: {case}")
        cell.records[repetition] = record
    return found


def flat(case: dict[str, JsonValue], prefix: str = "") -> dict[str, JsonValue]:
    """A case as one level of dotted names."""
    fields: dict[str, JsonValue] = {}
    for name, value in case.items():
        if isinstance(value, dict):
            fields |= flat(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


def differences(base: dict[str, JsonValue], head: dict[str, JsonValue]) -> list[str]:
    """Every field in which two cases (or environments) differ, as `name: base → head`."""
    one, other = flat(base), flat(head)
    return [
        f"{name}: {one.get(name, 'absent')} → {other.get(name, 'absent')}"
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]


def metrics(sides: Iterable[Cell]) -> list[str]:
    """Names of all numbers that any finished record holds."""
    return sorted(
        {
            name
            for cell in sides
            for record in cell.finished
            for name, value in record.metrics.items()
            if isinstance(value, int | float)
        }
    )
