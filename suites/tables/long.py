"""Every number of every record as a row of its own: the form that other tools read."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pandas as pd

from suites.records.record import Record, ResultFile, canonical

# suffix of a metric's name → its unit; the first that fits, so the longer ones come first
UNITS = {
    "tokens_per_s": "tokens/s",
    "flops_per_token": "FLOPs/token",
    "bytes_per_s": "bytes/s",
    "flops_per_s": "FLOPs/s",
    "bits_per_byte": "bits/byte",
    "_nats": "nats",
    "_percent": "percent",
    "_celsius": "degrees Celsius",
    "_watts": "watts",
    "_mhz": "MHz",
    "_bytes": "bytes",
    "bytes_moved": "bytes",
    "flops": "FLOPs",
    "_s": "seconds",
    "tokens": "tokens",
    "parameters": "parameters",
    "documents": "documents",
    "steps": "steps",
    "experts": "experts",
    "_width": "model width",
}
COLUMNS = {
    "source": "measured, or paper for published numbers",
    "suite": "which suite made it",
    "profile": "at which scale",
    "layer": "the layer, operation or rival; null where the case has none",
    "case_id": "digest of the case: everything that decided the result",
    "case": "the case as JSON",
    "seed": "of the run; null where there is none",
    "repeat": "1 for the second measurement of a control pair",
    "status": "ok, or why there is no number; then metric and value are null",
    "reason": "of a status that is not ok",
    "metric": "name, its unit at the end",
    "unit": "of the value; empty for ratios and counts without one",
    "value": "the number",
    "commit": "that was measured",
    "commit_date": "of that commit, ISO 8601",
    "machine": "GPU, or processor with its cores",
    "torch": "version",
}


def long(files: Iterable[ResultFile], date_of: Callable[[str], str | None]) -> pd.DataFrame:
    """A row per record and number, columns as in `COLUMNS`; `date_of` dates a commit."""
    rows = [row for file in files for record in file.records for row in of_record(file, record)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    dates = {commit: date_of(commit) for commit in frame["commit"].dropna().unique()}
    return frame.assign(
        commit_date=frame["commit"].map(dates),
        seed=frame["seed"].astype("Int64"),
        repeat=frame["repeat"].astype("Int64"),
        value=frame["value"].astype("Float64"),
    )


def of_record(file: ResultFile, record: Record) -> Iterator[dict[str, Any]]:
    about = {
        "source": file.source,
        "suite": file.suite,
        "profile": file.profile,
        "layer": record.case.get("layer"),
        "case_id": record.case_id,
        "case": canonical(record.case),
        "seed": record.case.get("seed"),
        "repeat": record.case.get("repeat"),
        "status": record.status,
        "reason": record.reason,
        "commit": file.code.commit if file.code else None,
        "machine": machine(file),
        "torch": file.environment.packages.get("torch") if file.environment else None,
    }
    numbers = {
        name: value for name, value in record.metrics.items() if isinstance(value, int | float)
    }
    if not numbers:
        yield about
    for name, value in numbers.items():
        yield about | {"metric": name, "unit": unit(name), "value": float(value)}


def unit(metric: str) -> str:
    return next((found for suffix, found in UNITS.items() if metric.endswith(suffix)), "")


def machine(file: ResultFile) -> str | None:
    if file.environment is None:
        return None
    gpu = file.environment.gpu
    return gpu.name if gpu else f"{file.environment.cpu}, {file.environment.cores} cores"


def card(frame: pd.DataFrame) -> str:
    """A dataset card for the files beside it, its front matter as the hub reads it."""
    suites = "\n".join(f"- `{suite}`: {len(rows):,} rows" for suite, rows in frame.groupby("suite"))
    columns = "\n".join(f"- `{name}`: {meaning}" for name, meaning in COLUMNS.items())
    return f"""---
license: apache-2.0
pretty_name: Results of the PEER suite
tags: [mixture-of-experts, benchmark, PEER]
configs:
- config_name: default
  data_files: results.parquet
---
# Results of the PEER suite

{len(frame):,} numbers of {frame["case_id"].nunique():,} cases, measured by the benchmark and
reproducibility suite for PEER (arXiv 2407.04153), and those that the paper prints.
One row is one number of one run.

    import datasets
    rows = datasets.load_dataset("parquet", data_files="results.parquet", split="train")

    import pandas
    rows = pandas.read_parquet("results.parquet")

Losses and counts compare across machines, times only on one.
A failed case is a row with a status and no value.

## Columns

{columns}

## Suites

{suites}
"""
