"""Loss against FLOPs, time, memory and bytes of the same runs, and which of them nothing beats."""

from typing import Any

import pandas as pd

from suites.figures.style import METHODS
from suites.paper.verdict import OPTIMA
from suites.records.cells import Cell
from suites.report import charts
from suites.report.grid import of_rows
from suites.report.headline import powers
from suites.report.sources import Source, Sources
from suites.report.view import Chart, View
from suites.tables.sentences import listed

LOSS = "validation_loss_nats"
MiB = 2**20
FLOAT32 = 4  # bytes
# column → title of its axis, how the table shows it
COSTS = {
    "flops": ("training FLOPs", ".3g"),
    "seconds": ("training time (s)", ",.1f"),
    "memory": ("peak memory (MiB)", ",.0f"),
    "bytes": ("parameters (MiB in float32)", ",.3g"),
}


def view(sources: Sources) -> View | None:
    """Of the isoFLOP ladders, which hold every method at several sizes and budgets; None without them."""
    profile = sources.scale_of(OPTIMA)
    if profile is None:
        return None
    own = sources.of(OPTIMA, profile)
    found = [row(own[-1], key, cell) for key, cell in own[-1].cells.items() if cell.finished]
    frame = pd.DataFrame(found)
    for cost in COSTS:
        frame[f"{cost} front"] = front(frame[cost], frame["loss"])
    rows = charts.rows_of(frame.to_dict("records"))
    titles = {cost: title for cost, (title, _) in COSTS.items()}
    title = "Loss against four costs"
    caption = (
        "Each point is a method at one size and budget, mean over seeds; the dashed line joins those that "
        "no other beats in both. Times and memory are of training runs on a shared machine."
    )
    return View(
        "costs",
        "Costs",
        "What a loss costs",
        sentence(frame),
        [
            Chart(title, caption, charts.svg(charts.trade(rows, titles), title)),
            of_rows(
                "every-cost", "Every point", map(told, frame.to_dict("records")), frame["link"]
            ),
        ],
    )


def row(source: Source, key: str, cell: Cell) -> dict[str, Any]:
    means = {name: pd.Series(cell.values(name)).mean() for name in (LOSS, *METRICS.values())}
    backbone = cell.case["backbone"]
    assert isinstance(backbone, dict)
    size = f"{backbone['blocks']} × {backbone['dim']}"
    return {
        "label": str(cell.case["layer"]),
        "size": size,
        "loss": means[LOSS],
        "flops": means[METRICS["flops"]],
        "seconds": means[METRICS["seconds"]],
        "memory": means[METRICS["memory"]] / MiB,
        "bytes": means[METRICS["bytes"]] * FLOAT32 / MiB,
        "link": source.cell(key),
        "says": powers(
            f"{cell.case['layer']}, {size}: {means[LOSS]:.4f} nats, {means[METRICS['flops']]:.3g} FLOPs, "
            f"{means[METRICS['seconds']]:.1f} s, {means[METRICS['memory']] / MiB:,.0f} MiB at its peak"
        ),
    }


METRICS = {
    "flops": "training_flops",
    "seconds": "train_s",
    "memory": "peak_bytes",
    "bytes": "parameters",
}


def front(cost: pd.Series, loss: pd.Series) -> list[bool]:
    """Whether no other row is lower in one and as low in the other."""
    return [
        not (((cost <= c) & (loss < l)) | ((cost < c) & (loss <= l))).any()
        for c, l in zip(cost, loss, strict=True)
    ]


def sentence(frame: pd.DataFrame) -> str:
    """Who is on each front."""
    parts = []
    for cost, (title, _) in COSTS.items():
        names = list(dict.fromkeys(frame.loc[frame[f"{cost} front"], "label"]))
        parts.append(
            f"{title.split(' (')[0]}: {listed([METHODS[name][0] for name in METHODS if name in names])}"
        )
    return f"Methods that nothing beats, by what is counted as cost. {'; '.join(parts)}."


def told(row: dict[Any, Any]) -> dict[str, Any]:
    """As the table says it."""
    return {
        "method": row["label"],
        "size": row["size"],
        "loss (nats/token)": (row["loss"], f"{row['loss']:.4f}"),
        **{
            title: (row[cost], powers(format(row[cost], shape)))
            for cost, (title, shape) in COSTS.items()
        },
        "nothing beats it in": ", ".join(
            title.split(" (")[0] for cost, (title, _) in COSTS.items() if row[f"{cost} front"]
        )
        or "–",
    }
