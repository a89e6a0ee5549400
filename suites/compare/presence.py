"""Verdicts on cells that have no number on a side: NEW, REMOVED, FAILED, or another method."""

from suites.compare.verdict import Row, Verdict
from suites.records.cells import Cell, cells, differences
from suites.records.names import labels
from suites.records.record import ResultFile

SAME_RECORD = "both sides are the same record: nothing was measured in between"


def presence(
    suite: str, cell: str, verdict: Verdict, cause: str = "", layer: str | None = None
) -> Row:
    return Row(
        suite=suite,
        cell=cell,
        layer=layer,
        metric="status",
        base=None,
        head=None,
        verdict=verdict,
        cause=cause,
    )


def one_sided(files: list[ResultFile], verdict: Verdict) -> list[Row]:
    """A suite that only one side has."""
    rows = []
    for file in files:
        named = labels(cells(file))
        rows += [presence(f"{file.suite} {file.profile}", cell, verdict) for cell in named.values()]
    return rows


def unfinished(suite: str, label: str, base: Cell, head: Cell) -> list[Row]:
    """For a cell without a finished record on a side; nothing where both sides skipped it."""
    if base.is_all("skipped") and head.is_all("skipped"):
        return []
    if not base.finished and not head.finished:
        cause = f"failed on both sides ({head.failures()})"
        return [presence(suite, label, "INVALID", cause)]
    if not base.finished:
        return [presence(suite, label, "NEW", f"BASE had no number ({base.failures()})")]
    verdict: Verdict = "FAILED"
    if head.is_all("skipped"):
        verdict = "REMOVED"
    elif head.is_all("invalid"):
        verdict = "INVALID"
    return [presence(suite, label, verdict, head.failures())]


def unmatched(suite: str, base: dict[str, Cell], head: dict[str, Cell]) -> list[Row]:
    """REMOVED and NEW cells; a layer that has one of each had its method changed."""
    named = labels(base | head)
    removed = {key: cell for key, cell in base.items() if key not in head}
    new = {key: cell for key, cell in head.items() if key not in base}
    rows = []
    for layer in sorted({str(cell.case.get("layer")) for cell in removed.values()}):
        old = [key for key, cell in removed.items() if str(cell.case.get("layer")) == layer]
        now = [key for key, cell in new.items() if str(cell.case.get("layer")) == layer]
        if len(old) == len(now) == 1:
            before, after = removed.pop(old[0]), new.pop(now[0])
            changes = "; ".join(differences(before.case, after.case))
            rows.append(presence(suite, layer, "INVALID", f"method changed ({changes})"))
    rows += [presence(suite, named[key], "REMOVED") for key in removed]
    return rows + [presence(suite, named[key], "NEW") for key in new]
