"""BASE against HEAD, cell by cell: losses and counts anywhere, time and bytes on like machines."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from suites.analysis.statistics import (
    LOSS_MARGIN_NATS,
    LOSS_TOLERANCE_NATS,
    Estimate,
    decide,
    estimate,
    unpaired,
)
from suites.compare.causes import explained
from suites.compare.pairs import Pair, pairs
from suites.compare.presence import SAME_RECORD, one_sided, presence, unfinished, unmatched
from suites.compare.sides import Side
from suites.compare.verdict import Row, Verdict, estimated, invalid, verdict
from suites.errors import UserError
from suites.records.cells import Cell, cells, metrics
from suites.records.names import labels
from suites.records.quantity import Quantity, quantity

# (seed, repeat) → value
Values = Mapping[tuple, float]


@dataclass
class Finding:
    """A row; with an estimate its verdict waits for those of all other cells."""

    row: Row
    quantity: Quantity
    estimate: Estimate | None = None


def compare(base: Side, head: Side) -> list[Row]:
    """Raises UserError for machines that cannot be paired."""
    rows: list[Row] = []
    for suite in sorted({(file.suite, file.profile) for file in (*base.files, *head.files)}):
        ours = [file for file in base.files if (file.suite, file.profile) == suite]
        theirs = [file for file in head.files if (file.suite, file.profile) == suite]
        if ours and theirs:
            rows += [row for pair in pairs(ours, theirs) for row in compare_pair(pair)]
        else:
            rows += one_sided(ours, "REMOVED") + one_sided(theirs, "NEW")
    return rows


def compare_pair(pair: Pair) -> list[Row]:
    base, head = cells(pair.base), cells(pair.head)
    if pair.same_record():
        return [presence(pair.name(), f"all {len(base)} cells", "INVALID", SAME_RECORD)]
    named = labels(base | head)
    rows: list[Row] = []
    findings: list[Finding] = []
    for key in [key for key in base if key in head]:
        if base[key].finished and head[key].finished:
            findings += compare_cell(pair, named[key], base[key], head[key])
        else:
            rows += unfinished(pair.name(), named[key], base[key], head[key])
    rows = settled(findings) + rows + unmatched(pair.name(), base, head)
    return explained(rows, pair.same_code())


def compare_cell(pair: Pair, label: str, base: Cell, head: Cell) -> Iterator[Finding]:
    """One finding per metric that is judged."""
    for metric in metrics((base, head)):
        ours, theirs = base.values(metric), head.values(metric)
        row = Row(
            suite=pair.name(),
            cell=label,
            layer=layer_of(base),
            metric=metric,
            base=mean(ours),
            head=mean(theirs),
            verdict="UNDECIDED",
        )
        try:
            what = quantity(metric)
        except UserError as error:
            yield Finding(invalid(row, str(error)), Quantity("count"))
            continue
        if what is None:
            continue
        if ours and theirs:
            yield judge(row, what, pair, ours, theirs)
        else:
            yield Finding(with_verdict(row, "REMOVED" if ours else "NEW"), what)


def judge(row: Row, what: Quantity, pair: Pair, base: Values, head: Values) -> Finding:
    """Everything that needs no statistics is decided here."""
    growth = sum(head.values()) / len(head) - sum(base.values()) / len(base)
    positive = min(*base.values(), *head.values()) > 0
    if row.base and row.head and positive:
        row = row.model_copy(update={"ratio": row.head / row.base})
    if what.needs_like_machines and (unlike := pair.unlike()):
        row = invalid(row, f"machine or versions changed ({unlike})")
    elif base == head:
        row = with_verdict(row, "SAME")
    elif what.kind == "count":
        row = with_verdict(row, verdict(what, "above" if growth > 0 else "below"))
    elif not positive:
        row = invalid(row, "a value is not positive, so there is no ratio")
    else:
        return Finding(row, what, interval(row.metric, what, base, head))
    return Finding(row, what)


def interval(metric: str, what: Quantity, base: Values, head: Values) -> Estimate | None:
    """Losses pair by seed, processes do not; None where a side has only one value."""
    if what.kind == "loss":
        in_nats = metric.endswith("_nats")
        gaps = [
            head[seed] - base[seed] if in_nats else math.log(head[seed] / base[seed])
            for seed in base
            if seed in head
        ]
        return estimate(gaps, LOSS_MARGIN_NATS, LOSS_TOLERANCE_NATS) if len(gaps) > 1 else None
    if min(len(base), len(head)) < 2:
        return None
    return unpaired([math.log(v) for v in base.values()], [math.log(v) for v in head.values()])


def settled(findings: list[Finding]) -> list[Row]:
    """Rows with verdicts, decided together so that many cells do not make many false alarms."""
    waiting = {
        str(number): finding.estimate
        for number, finding in enumerate(findings)
        if finding.estimate is not None
    }
    decisions = decide(waiting)
    return [
        estimated(finding.row, finding.estimate, verdict(finding.quantity, decisions[str(number)]))
        if finding.estimate is not None
        else finding.row
        for number, finding in enumerate(findings)
    ]


def with_verdict(row: Row, word: Verdict) -> Row:
    return row.model_copy(update={"verdict": word})


def layer_of(cell: Cell) -> str | None:
    layer = cell.case.get("layer")
    return None if layer is None else str(layer)


def mean(values: Values) -> float | None:
    return sum(values.values()) / len(values) if values else None
