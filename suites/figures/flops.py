"""FLOPs, bytes and parameters of each layer against width, and of PEER against the number of experts."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suites.figures.style import keyed, styles, titled
from suites.records.record import Record, ResultFile

QUANTITIES = {
    "forward_flops": "forward FLOPs / token",
    "bytes_moved": "bytes moved / token",
    "active_parameters": "active parameters",
    "parameters": "parameters",
}
PER_TOKEN = ("forward_flops", "bytes_moved")


def figures(files: list[ResultFile]) -> dict[str, Figure]:
    records = {
        record.case_id: record
        for file in files
        for record in file.records
        if record.case["table"] == "layer" and record.status == "ok"
    }
    widths = [r for r in records.values() if not r.case["sweep"]]
    experts = [r for r in records.values() if r.case["sweep"]]
    drawn = Figure(figsize=(14, 6.5), layout="constrained")
    axes = drawn.subplots(2, len(QUANTITIES))
    for column, (quantity, label) in enumerate(QUANTITIES.items()):
        lines(axes[0][column], widths, "dim", quantity)
        lines(axes[1][column], experts, "experts", quantity)
        axes[0][column].set(title=label, xlabel="width d")
        axes[1][column].set(xlabel="number of experts N")
    keyed(drawn)
    titled(drawn, "What a layer costs: every layer against its width, and PEER against its experts")
    return {"costs": drawn}


def widths(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """PEER's look with a dash per width."""
    return {
        name: look | {"label": f"PEER, {name}"}
        for name, look in zip(names, styles(f"peer {n}" for n in names).values(), strict=True)
    }


def lines(axis: Axes, records: list[Record], x: str, quantity: str) -> None:
    """One line per layer against width, or per width against experts."""
    curves: dict[str, dict[float, float]] = {}
    for record in records:
        case: dict[str, Any] = dict(record.case)
        metrics: dict[str, Any] = dict(record.metrics)
        name = case["layer"] if x == "dim" else f"d = {case['dim']}"
        at = case["dim"] if x == "dim" else case["options"]["experts"]
        tokens = case["tokens"] if quantity in PER_TOKEN else 1
        curves.setdefault(name, {})[at] = metrics[quantity] / tokens
    looks = styles(curves) if x == "dim" else widths(curves)
    # The first lines are the widest, so that those of equal cost are seen round the later ones.
    thick = np.linspace(7.0 if x == "dim" else 1.5, 1.5, len(curves))
    for width, (name, points) in zip(thick, curves.items(), strict=True):
        axis.plot(*zip(*sorted(points.items()), strict=True), linewidth=width, **looks[name])
    ticks = sorted({at for points in curves.values() for at in points})
    axis.set(xscale="log", yscale="log")
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.set_xticks([], minor=True)
    axis.tick_params(axis="x", labelsize="small")
    axis.grid(alpha=0.3)
