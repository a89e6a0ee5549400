"""The verdict in a few lines: PEER less each other method, in every sense in which budgets can be equal.

One estimator throughout: at an optimum the minimum of the parabola through a seed's ladder, elsewhere
the loss itself; differences are paired by seed, intervals Student's, 95 %.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from suites.analysis.arms import arms, by_seed
from suites.analysis.curves import curves
from suites.analysis.judgement import Interval, interval, paired
from suites.analysis.trend import differences
from suites.paper.evidence import METHODS
from suites.records.record import ResultFile
from suites.tables.sentences import listed, several, standing
from suites.tables.sheet import Sheet
from suites.tables.speed import row_name
from suites.tables.trend import ONE, OTHERS

# suite of arms → what it holds equal
EQUAL = {
    "methods": "equal FLOPs, one size",
    "equal_time": "equal time",
    "equal_parameters": "equal parameters and FLOPs",
}
OPTIMA, TREND, SPEED = "isoflop", "compute_trend", "layer_speed"
SUITES = (*EQUAL, OPTIMA, TREND, SPEED)


class Line(NamedTuple):
    """One sense of equality: what is held equal, the records it rests on, PEER less each method in nats."""

    held: str
    file: ResultFile
    gaps: dict[str, Interval]
    budget_flops: float | None = None  # where several budgets are in the records


def lines(files: Mapping[str, Sequence[ResultFile]]) -> list[Line]:
    """One per sense of equality that `files` (by suite) have records of, and one per budget where sizes
    are each method's best; of several files the last, and the last that has the budget."""
    last = {suite: some[-1] for suite, some in files.items() if suite in SUITES and some}
    optima = {
        (suite, line.budget_flops): line
        for suite in (OPTIMA, TREND)
        for file in files.get(suite, ())
        for line in at_optima(file)
    }
    return [optima[key] for key in sorted(optima)] + [
        of_arms(suite, last[suite]) for suite in EQUAL if suite in last
    ]


def sheet(profile: str, files: Mapping[str, Sequence[ResultFile]]) -> Sheet | None:
    """A row per line, and one of times where they were measured."""
    found = lines(files)
    if not found:
        return None
    rows = [
        {"held equal": line.held} | {other: stated(gap) for other, gap in line.gaps.items()}
        for line in found
    ]
    if some := files.get(SPEED):
        times = {other: f"{ratio:.2f} times" for other, ratio in step_times(some[-1]).items()}
        rows.append({"held equal": "equal FLOPs, time of a step"} | times)
    frame = pd.DataFrame(rows, columns=["held equal", *OTHERS]).dropna(axis=1, how="all")
    return Sheet(
        title=f"verdict, profile {profile}: PEER less each method",
        frame=frame.fillna("–"),
        says=sentence(found),
        brief=list(frame.columns),
        notes=[
            "nats per token, 95 % intervals over paired seeds; below 0 PEER is better",
            "the last line: times of a training step at equal FLOPs, PEER's over the method's",
        ],
    )


def sentence(found: Sequence[Line], other: str = "dense") -> str:
    """PEER against one method in every sense, and how all comparisons end."""
    said = [
        f"{abs(gap.mean):.2f} {'ahead' if gap.mean < 0 else 'behind'}"
        + (" (within chance)" if standing(gap) == "undecided" else "")
        + f" at {line.held if line.budget_flops is None else f'{line.budget_flops:.2g} FLOPs'}"
        for line in found
        for name, gap in line.gaps.items()
        if name == other
    ]
    if not any(line.gaps for line in found):
        return "There is no other method to compare PEER with."
    ends = [standing(gap) for line in found for gap in line.gaps.values()]
    seeds = sorted({gap.seeds for line in found for gap in line.gaps.values()})
    number = f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else several(seeds[0], "seed")
    return (
        (f"Against {other} PEER is, in nats, {listed(said)}. " if said else "")
        + f"Of {several(len(ends), 'comparison')} it is better in {ends.count('better')}, worse in "
        f"{ends.count('worse')}, undecided in {ends.count('undecided')} ({number})."
    )


def at_optima(file: ResultFile) -> Iterator[Line]:
    fitted = curves([file])
    found = {other: differences(fitted, ONE, other) for other in OTHERS}
    for budget in sorted({row.budget_flops for rows in found.values() for row in rows}):
        gaps = {
            other: row.interval
            for other, rows in found.items()
            for row in rows
            if row.budget_flops == budget
        }
        yield Line(f"{budget:.2g} FLOPs, best size of each", file, gaps, budget)


def of_arms(suite: str, file: ResultFile) -> Line:
    cells = arms([file], METHODS).set_index("method")["cell"]
    pairs = {
        other: paired(by_seed(cells[ONE]), by_seed(cells[other]))
        for other in OTHERS
        if other in cells and ONE in cells
    }
    gaps = {other: interval(values) for other, values in pairs.items() if values}
    return Line(EQUAL[suite], file, gaps)


def step_times(file: ResultFile) -> dict[str, float]:
    """PEER's time of a training step over each method's at equal FLOPs, with uniform routing.

    At the point of the suite where most rows are.
    """
    cells = [
        (record.case, float(str(record.metrics["median_s"])))
        for record in file.records
        if record.status == "ok"
        and (record.case["phase"], record.case["matched"]) == ("training_step", "forward_flops")
        and (record.case["routing"], record.case["repeat"]) == ("uniform", 0)
    ]
    groups: dict[tuple, dict[str, float]] = {}
    for case, median_s in cells:
        point = tuple(
            case[name] for name in ("tokens", "dim", "experts", "active_experts", "dtype")
        )
        groups.setdefault(point, {})[row_name(case)] = median_s
    times = max(groups.values(), key=len)
    own = {other: times.get(other, times.get(f"{other} auto")) for other in OTHERS}
    return {other: times[f"{ONE} auto"] / seconds for other, seconds in own.items() if seconds}


def stated(found: Interval) -> str:
    if found.low is None or found.high is None:
        return f"{found.mean:+.3f}"
    return f"{found.mean:+.3f} ({found.low:+.3f} … {found.high:+.3f})"
