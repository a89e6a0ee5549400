"""The verdict in a few lines: PEER less each other method, in every sense in which budgets can be equal.

One estimator throughout: at an optimum the minimum of the parabola through a seed's ladder, elsewhere
the loss itself; differences are paired by seed, intervals Student's, 95 %.
"""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from suites.analysis.arms import arms, by_seed
from suites.analysis.curves import curves
from suites.analysis.judgement import Interval, interval, paired
from suites.analysis.trend import differences
from suites.paper.evidence import METHODS
from suites.records.record import ResultFile
from suites.tables.sheet import Sheet
from suites.tables.speed import row_name
from suites.tables.trend import ONE, OTHERS

# suite of arms → what it holds equal
EQUAL = {
    "methods": "equal FLOPs, one size",
    "equal_time": "equal time",
    "equal_parameters": "equal parameters and FLOPs",
}
OPTIMA, SPEED = "isoflop", "layer_speed"
SUITES = (*EQUAL, OPTIMA, SPEED)


def sheet(profile: str, files: Mapping[str, Sequence[ResultFile]]) -> Sheet | None:
    """A line per sense of equality that `files` (by suite) have records of; of several the last."""
    last = {suite: some[-1] for suite, some in files.items() if suite in SUITES and some}
    rows = [*at_optima(last[OPTIMA])] if OPTIMA in last else []
    rows += [of_arms(suite, last[suite]) for suite in EQUAL if suite in last]
    if not rows:
        return None
    rows += [speed(last[SPEED])] if SPEED in last else []
    return Sheet(
        title=f"verdict, profile {profile}: PEER less each method",
        frame=pd.DataFrame(rows).fillna("–"),
        brief=list(rows[0]),
        notes=[
            "nats per token, 95 % intervals over paired seeds; below 0 PEER is better",
            "the last line: times of a training step at equal FLOPs, PEER's over the method's",
        ],
    )


def at_optima(file: ResultFile) -> Iterator[dict[str, str]]:
    fitted = curves([file])
    found = {other: differences(fitted, ONE, other) for other in OTHERS}
    for budget in sorted({row.budget_flops for rows in found.values() for row in rows}):
        line = {"held equal": f"{budget:.2g} FLOPs, best size of each"}
        for other, rows in found.items():
            for row in rows:
                if row.budget_flops == budget:
                    line[other] = stated(row.interval)
        yield line


def of_arms(suite: str, file: ResultFile) -> dict[str, str]:
    cells = arms([file], METHODS).set_index("method")["cell"]
    line = {"held equal": EQUAL[suite]}
    for other in OTHERS:
        if other in cells and ONE in cells:
            gaps = paired(by_seed(cells[ONE]), by_seed(cells[other]))
            line[other] = stated(interval(gaps)) if gaps else "–"
    return line


def speed(file: ResultFile) -> dict[str, str]:
    """At the point of the suite where most rows are: a training step with uniform routing."""
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
    line = {"held equal": "equal FLOPs, time of a step"}
    for other in OTHERS:
        own = times.get(other, times.get(f"{other} auto"))
        line[other] = f"{times[f'{ONE} auto'] / own:.2f} times" if own else "–"
    return line


def stated(found: Interval) -> str:
    if found.low is None or found.high is None:
        return f"{found.mean:+.3f}"
    return f"{found.mean:+.3f} ({found.low:+.3f} … {found.high:+.3f})"
