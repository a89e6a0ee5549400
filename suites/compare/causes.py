"""Why a cell moved: the machine, a baseline, the code, or nothing but noise."""

from suites.compare.verdict import Row, invalid
from suites.records.names import CONTROLS
from suites.records.quantity import quantity

OURS = (
    "peer",
    "experts",
    "retrieve",
)  # the layer and its operations; the others are compared with it


def explained(rows: list[Row], same_code: bool) -> list[Row]:
    """Every row with a note on its cause; times beside a control that moved are INVALID."""
    moved = [row for row in rows if is_control(row) and row.verdict in ("FASTER", "SLOWER")]
    return [explain(row, moved, same_code) for row in rows]


def is_control(row: Row) -> bool:
    return row.layer in CONTROLS


def explain(row: Row, moved: list[Row], same_code: bool) -> Row:
    if row.cause or row.metric == "status" or row.verdict in ("SAME", "NEW", "REMOVED"):
        return row
    what = quantity(row.metric)
    timed = what is not None and what.kind == "time"
    if timed and moved:
        return invalid(row, f"machine moved: control {moved[0].cell} is {moved[0].verdict}")
    if row.verdict == "UNDECIDED":
        reason = "one value on a side has no interval" if row.low is None else "noise"
        advice = "nox -s regress measures in rounds" if timed else "more seeds decide"
        return row.model_copy(update={"cause": f"{reason}; {advice}"})
    if timed and same_code:
        return row.model_copy(update={"cause": "noise or machine: the code is the same"})
    baseline = row.layer is not None and row.layer not in OURS
    return row.model_copy(update={"cause": "baseline moved" if baseline else "code"})
