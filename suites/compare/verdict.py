"""The verdict on each cell of a comparison, and the exit status of all of them together."""

import math
from typing import Literal

from suites.analysis.statistics import Decision, Estimate
from suites.records.quantity import Quantity
from suites.records.record import Model

Verdict = Literal[
    "SAME", "FASTER", "SLOWER", "BETTER", "WORSE", "FEWER", "MORE",
    "UNDECIDED", "INVALID", "NEW", "REMOVED", "FAILED",
]  # fmt: skip

FAILING = {"SLOWER", "WORSE", "MORE", "REMOVED", "FAILED"}
OPEN = {"UNDECIDED", "INVALID"}
# kind → what a lower and a higher cost are called
WORDS: dict[str, tuple[Verdict, Verdict]] = {
    "time": ("FASTER", "SLOWER"),
    "loss": ("BETTER", "WORSE"),
    "bytes": ("FEWER", "MORE"),
    "count": ("FEWER", "MORE"),
}


class Row(Model):
    """One cell of a comparison. Ratios are HEAD / BASE; absent where a side or an interval is."""

    suite: str
    cell: str
    layer: str | None = None
    metric: str
    base: float | None
    head: float | None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    detectable: float | None = None
    verdict: Verdict
    cause: str = ""


def verdict(quantity: Quantity, decision: Decision) -> Verdict:
    """What the decision on a logarithm of HEAD / BASE means for this quantity."""
    if decision == "within":
        return "SAME"
    if decision == "undecided":
        return "UNDECIDED"
    return WORDS[quantity.kind][(decision == "above") == quantity.higher_is_worse]


def estimated(row: Row, found: Estimate, word: Verdict) -> Row:
    """The row with its verdict and interval; the ratio of a loss in nats is that of perplexity."""
    return row.model_copy(
        update={
            "ratio": math.exp(found.log_ratio),
            "low": math.exp(found.low),
            "high": math.exp(found.high),
            "detectable": math.expm1(found.detectable),
            "verdict": word,
        }
    )


def invalid(row: Row, cause: str) -> Row:
    return row.model_copy(update={"verdict": "INVALID", "cause": cause})


def exit_status(rows: list[Row]) -> int:
    """0 nothing worse, 1 worse, failed or removed, 3 undecided or invalid, 4 nothing measured."""
    verdicts = {row.verdict for row in rows}
    if verdicts & FAILING:
        return 1
    if verdicts & OPEN:
        return 3
    return 0 if verdicts - {"NEW"} else 4
