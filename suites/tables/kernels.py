"""The table of suite `kernels`: one row per kernel of an operation, counted; and predicted times."""

from typing import Any

import pandas as pd

from suites.records.record import Record, ResultFile
from suites.tables.sentences import between, listed, several
from suites.tables.sheet import Sheet

CASE = ("operation", "table_grad", "target", "dim", "tokens")
COUNTS = {
    "registers": "registers",
    "stack_bytes": "stack B",
    "resident_warps": "warps / SM",
    "row_load_bytes": "row load B",
    "in_flight_bytes": "in flight B / SM",
    "loop_barriers": "barriers in loops",
    "loop_instructions": "loop",
    "pair_instructions": "instructions / pair",
    "run_instructions": "/ run",
    "query_instructions": "/ query",
}
PREDICTED = ("least", "likely", "most")


def sheets(files: list[ResultFile]) -> list[Sheet]:
    """Counts of kernels, and operations with a predicted time, those of several commits beside each other."""
    records = [(commit(file), record) for file in files for record in file.records]
    profile = files[0].profile
    counts = [{**row, "commit": at} for at, record in records for row in kernels(record)]
    last = commit(files[-1])
    newest = [row for row in counts if row["commit"] == last]
    stacked = sum(bool(row["stack B"]) for row in newest)
    times = [
        {**predicted(record), "commit": at}
        for at, record in records
        if "predicted_likely_us" in record.metrics
    ]
    return [
        Sheet(
            title=f"kernels, profile {profile}: counted on the launched binaries",
            name="counts",
            frame=pd.DataFrame(counts),
            says=f"At {last} {stacked} of {several(len(newest), 'compiled kernel')} keep values on a stack.",
            formats=dict.fromkeys(("instructions / pair", "/ run", "/ query"), ".1f"),
            notes=[
                "a loop's instructions count every branch in it as taken, those of a pair none",
                "/ run: what the end of a run of equal experts adds to its pairs",
            ],
        ),
        Sheet(
            title=f"kernels, profile {profile}: predicted on an H200, nothing measured",
            name="predicted",
            frame=pd.DataFrame(times),
            says=likely([row for row in times if row["commit"] == last]),
            formats=dict.fromkeys(("floor µs", *(f"{p} µs" for p in PREDICTED)), ".0f")
            | {f"{p} × floor": ".2f" for p in PREDICTED},
            notes=[
                "2.6, 2.0 and 1.5 instructions per cycle; 100, 92 and 85 % of the bandwidth",
                "floor: every distinct row once at the speed of a copy; of retrieval its products alone",
            ],
        ),
    ]


def likely(rows: list[dict]) -> str:
    """The likely times over the floor by operation, at the largest number of tokens."""
    most = max(row["tokens"] for row in rows)
    loaded = pd.DataFrame([row for row in rows if row["tokens"] == most])
    said = [
        f"{operation} {between(some['likely × floor'])}"
        for operation, some in loaded.groupby("operation", sort=False)
    ]
    return f"Nothing was measured; likely times over the floor of {most:,} tokens: {listed(said)}."


def commit(file: ResultFile) -> str:
    return ((file.code and file.code.commit) or "none")[:12]


def kernels(record: Record) -> list[dict]:
    names = dict.fromkeys(m.partition(".")[0] for m in record.metrics if "." in m)
    return [
        {name: record.case[name] for name in CASE}
        | {"kernel": kernel}
        | {shown: record.metrics.get(f"{kernel}.{count}") for count, shown in COUNTS.items()}
        for kernel in names
    ]


def predicted(record: Record) -> dict:
    metrics: Any = record.metrics
    floor = metrics["predicted_floor_us"]
    times = {name: metrics[f"predicted_{name}_us"] for name in PREDICTED}
    return (
        {name: record.case[name] for name in CASE}
        | {"floor µs": floor}
        | {f"{name} µs": time for name, time in times.items()}
        | {f"{name} × floor": time / floor for name, time in times.items()}
    )
