"""The arms of an experiment beside each other: mean over seeds, and paired difference to a reference arm."""

import math
from itertools import chain
from typing import Any

import pandas as pd

from suites.analysis.comparison import Comparison
from suites.analysis.judgement import interval, paired
from suites.errors import UserError
from suites.records.cells import Cell, cells, flat
from suites.records.record import ResultFile, canonical

LOSS = "validation_loss_nats"


def by_seed(cell: Cell, metric: str = LOSS) -> dict[int, float]:
    """Seed → metric of the finished runs that have it."""
    return {int(str(key[0])): value for key, value in cell.values(metric).items()}


def arms(files: list[ResultFile], comparison: Comparison) -> pd.DataFrame:
    """A row per arm and commit, in the order of the records, means over seeds.

    Columns: those varied; `cell`; loss, its standard deviation, seeds; `difference`, `low` and `high` of
    the paired difference to the reference; means of all other metrics; `text` and `commit`. Raises
    UserError where nothing finished or texts differ.
    """
    rows = [row(file, cell, comparison) for file in files for cell in cells(file).values()]
    frame = pd.DataFrame([found for found in rows if found["seeds"]])
    if frame.empty:
        reasons = sorted({cell.failures() for file in files for cell in cells(file).values()})
        raise UserError("no finished run to print; failures were: " + "; ".join(reasons))
    if frame["text"].nunique() > 1:
        raise UserError("the runs were made on different texts; compare them separately")
    references = [reference(frame, own, comparison) for _, own in frame.iterrows()]
    differences = [
        paired(by_seed(own), by_seed(other)) if other is not None else []
        for own, other in zip(frame["cell"], references, strict=True)
    ]
    found = [interval(values) if values else None for values in differences]
    return frame.assign(
        difference=[one.mean if one else None for one in found],
        low=[one.low if one else None for one in found],
        high=[one.high if one else None for one in found],
    )


def row(file: ResultFile, cell: Cell, comparison: Comparison) -> dict[str, Any]:
    assert file.code is not None
    fields = flat(cell.case)
    means = {
        name: values.mean()
        for name in sorted(set(chain.from_iterable(r.metrics for r in cell.finished)))
        if not (values := pd.Series(cell.values(name), dtype=float)).empty
    }
    losses = pd.Series(by_seed(cell), dtype=float)
    return means | {
        **{column: value(fields, path) for column, path in comparison.varied.items()},
        "cell": cell,
        "seeds": len(losses),
        "loss": losses.mean() if len(losses) else math.nan,
        "std": losses.std() if len(losses) > 1 else None,
        "budget_flops": fields["budget_flops"],
        "text": canonical(cell.case["text"]),
        "commit": (file.code.commit or "none")[:12] + ("+dirty" if file.code.dirty else ""),
    }


def value(fields: dict[str, Any], path: str | tuple[str, ...]) -> Any:
    """A field as a table says it, since a pandas column would turn None into NaN; "–" where there is none."""
    if isinstance(path, tuple):
        return math.prod(fields[factor] for factor in path)
    found = fields.get(path, "–")
    if isinstance(found, bool) or found is None:
        return {True: "yes", False: "no", None: "none"}[found]
    return ", ".join(map(str, found)) if isinstance(found, list) else found


def reference(frame: pd.DataFrame, own: pd.Series, comparison: Comparison) -> Cell | None:
    """The cell that `own` is compared with; None for the reference itself and where there is none."""
    same = frame["commit"] == own["commit"]
    for column in comparison.within:
        same &= frame[column] == own[column]
    first = frame.loc[same & (frame[comparison.against] == frame[comparison.against].iloc[0])]
    return None if first.empty or first["cell"].iloc[0] is own["cell"] else first["cell"].iloc[0]


def failures(files: list[ResultFile]) -> list[str]:
    """One line per run that did not finish."""
    return [
        f"{record.case['layer']}, seed {record.case['seed']}: {record.status}, {record.reason}"
        for file in files
        for record in file.records
        if record.status != "ok"
    ]
