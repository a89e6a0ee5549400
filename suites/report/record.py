"""The page of a record: each cell with its case, the numbers of its repetitions and their samples."""

from typing import Any

from suites.records.cells import REPETITIONS, Cell, cells, flat
from suites.records.names import labels
from suites.records.record import Record
from suites.report.sources import Source, anchor, machine, shown, word
from suites.report.templates import template

MOST_SAMPLES = 50  # more is a curve over training, which the file itself holds


def page(source: Source) -> str:
    file = source.file
    found = cells(file)
    named = labels(found)
    return template("record.html").render(
        file=file,
        machine=machine(file),
        cells=[described(key, named[key], cell) for key, cell in found.items()],
        up="../" * (len(source.path.parts) - 1),
        raw=source.path.name,
    )


def described(key: str, name: str, cell: Cell) -> dict[str, Any]:
    fields = flat(cell.case)
    runs = {repetition(values): record for values, record in cell.records.items()}
    metrics = dict.fromkeys(metric for record in runs.values() for metric in record.metrics)
    return {
        "id": anchor(key),
        "name": name,
        "words": " ".join(word(field, value) for field, value in fields.items()),
        "case": {field: shown(value) for field, value in fields.items()},
        "runs": list(runs),
        "metrics": {
            metric: [shown(record.metrics.get(metric)) for record in runs.values()]
            for metric in metrics
        },
        "samples": [
            (run, series, [shown(value) for value in values])
            for run, record in runs.items()
            for series, values in record.series.items()
            if len(values) <= MOST_SAMPLES
        ],
        "curves": sorted({name for record in runs.values() for name in curves(record)}),
        "statuses": sorted({record.status for record in runs.values()}),
        "failures": cell.failures(),
    }


def repetition(values: tuple[Any, ...]) -> str:
    named = zip(REPETITIONS, values, strict=True)
    return ", ".join(f"{name} {value}" for name, value in named if value is not None) or "value"


def curves(record: Record) -> list[str]:
    return [name for name, values in record.series.items() if len(values) > MOST_SAMPLES]
