"""What a gate found: rows with verdicts and causes, and files for an artifact and a summary."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from suites.analysis.statistics import Decision, Estimate, join
from suites.compare.causes import explained
from suites.compare.presence import presence
from suites.compare.rendering import render
from suites.compare.verdict import Row, estimated, verdict
from suites.records.names import timed_name
from suites.records.quantity import Quantity, quantity
from suites.records.store import write_text
from suites.regress.rounds import Counts, Harness
from suites.speed.cells.case import Cell

TIME, COUNT = Quantity("time"), Quantity("count")
SUITE = "regress"


def label(cell: Cell) -> str:
    return timed_name(vars(cell))


def time_rows(harness: Harness, decided: dict[str, tuple[Decision, Estimate]]) -> list[Row]:
    """A row per cell; a cell without a decision says on which side it has no time."""
    rows = []
    for name, cell in harness.cells.items():
        if name in harness.failures:
            rows.append(failed(label(cell), harness.failures[name]))
        elif name in harness.invalid:
            rows.append(presence(SUITE, label(cell), "INVALID", harness.invalid[name]))
        elif name not in decided:
            rows.append(presence(SUITE, label(cell), "INVALID", "no time from some process"))
        else:
            decision, found = decided[name]
            rounds = join(harness.runs[name])
            row = Row(
                suite=SUITE,
                cell=label(cell),
                layer=cell.layer,
                metric="median_s",
                base=float(np.median([rounds.base, rounds.again])),
                head=float(np.median(rounds.head)),
                verdict="UNDECIDED",
                cause="noise; a quieter machine decides" if decision == "undecided" else "",
            )
            rows.append(estimated(row, found, verdict(TIME, decision)))
    return explained(rows, harness.base.commit == harness.head.commit)


def count_rows(harness: Harness) -> list[Row]:
    """Rows of all counts; equal numbers are SAME, any other pair is MORE or FEWER."""
    return rows_of(
        {label(harness.cells[name]): sides for name, sides in harness.counts().items()},
        {label(cell): harness.failures.get(name, {}) for name, cell in harness.cells.items()},
        lambda metric: COUNT,
    )


def kernel_rows(harness: Harness) -> list[Row]:
    """The same of compiled kernels, where a narrower load is worse."""
    return rows_of(harness.kernel_counts(), harness.failures, quantity)


def rows_of(
    counts: Mapping[str, tuple[Counts, Counts]],
    failures: Mapping[str, dict[str, str]],
    quantity_of: Callable[[str], Quantity | None],
) -> list[Row]:
    rows = []
    for cell, (base, head) in counts.items():
        if failures.get(cell):
            rows.append(failed(cell, failures[cell]))
            continue
        for metric in sorted({*base, *head}):
            row = Row(
                suite=SUITE,
                cell=cell,
                metric=metric,
                base=base.get(metric),
                head=head.get(metric),
                verdict="REMOVED" if metric in base else "NEW",
            )
            rows.append(exact(row, quantity_of(metric) or COUNT))
    return rows


def exact(row: Row, quantity: Quantity) -> Row:
    if row.base is None or row.head is None:
        return row
    decision: Decision = "within"
    if row.base != row.head:
        decision = "above" if row.head > row.base else "below"
    ratio = row.head / row.base if row.base else None
    return row.model_copy(update={"verdict": verdict(quantity, decision), "ratio": ratio})


def failed(cell: str, reasons: dict[str, str]) -> Row:
    """FAILED where only HEAD fails, NEW where only BASE does."""
    if len(reasons) == 2:
        return presence(SUITE, cell, "INVALID", f"failed on both sides ({reasons['head']})")
    if "head" in reasons:
        return presence(SUITE, cell, "FAILED", reasons["head"])
    return presence(SUITE, cell, "NEW", f"BASE cannot run it ({reasons['base']})")


def write(folder: Path, rows: list[Row], notes: list[str], harness: Harness) -> None:
    """gate.md for a job summary, gate.json with the order of the processes and every median."""
    body = {
        "base": harness.base.commit,
        "head": harness.head.commit,
        "seed": harness.seed,
        "order": harness.order,
        "medians_s": {
            label(harness.cells[name]): [
                {role: times.tolist() for role, times in vars(rounds).items()} for rounds in runs
            ]
            for name, runs in harness.runs.items()
        },
        "rows": [row.model_dump() for row in rows],
        "notes": notes,
    }
    write_text(folder / "gate.json", json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / "gate.md", render(rows, notes, "markdown") + "\n")
