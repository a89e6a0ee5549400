"""Scaling and roofline of a speed suite; all axes are logarithmic."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suites.records.record import ResultFile
from suites.tables.speed import row_name

# axis of a case → its letter in the paper
SHAPE = {"tokens": "T", "dim": "D", "experts": "N", "active_experts": "hk"}
MARKERS = "osD^v<>pPX*"


def figures(files: list[ResultFile]) -> dict[str, Figure]:
    """Time and memory against T, time against N, and the roofline, as far as records give them."""
    cells = pd.DataFrame([flat(file, record) for file in files for record in file.records])
    cells = cells[(cells["status"] == "ok") & (cells["repeat"] == 0)]
    timed = cells[~cells["layer"].isin(("copy", "gemm"))]
    if timed.empty:
        return {}
    drawn = {
        "time-tokens": scaling(timed, "tokens", "median_s", "tokens T", "time (s)"),
        "time-experts": scaling(timed, "experts", "median_s", "experts N", "time (s)"),
        "memory-tokens": scaling(timed, "tokens", "peak_bytes", "tokens T", "peak memory (bytes)"),
        "roofline": roofline(timed),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def flat(file: ResultFile, record) -> dict:
    return {
        **{k: v for k, v in record.case.items() if isinstance(v, str | int | float | None)},
        **record.metrics,
        "row": row_name(record.case),
        "status": record.status,
        "title": f"{file.suite}, profile {file.profile}",
    }


def scaling(cells: pd.DataFrame, along: str, value: str, x: str, y: str) -> Figure | None:
    """One panel per phase: `value` against `along`, everything else held where most points are."""
    plain = cells[cells["routing"] == "uniform"]
    plain = plain[plain["matched"].isna() | (plain["matched"] == "forward_flops")]
    plain = plain[plain["dtype"] == plain["dtype"].mode().iloc[0]]
    held = [axis for axis in SHAPE if axis != along]
    spread = plain.groupby(held)[along].nunique()
    if spread.empty or spread.max() < 2:
        return None
    point = dict(zip(held, spread.idxmax(), strict=True))
    for axis, at in point.items():
        plain = plain[plain[axis] == at]
    phases = [p for p, group in plain.groupby("phase") if group[along].nunique() > 1]
    rows = sorted(set(plain["row"]))
    figure = Figure(figsize=(5.5 * len(phases), 4.5), layout="constrained")
    for panel, phase in enumerate(phases):
        axes = figure.add_subplot(1, len(phases), panel + 1)
        shown = plain[plain["phase"] == phase]
        axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
        lines(axes, shown[shown[value].notna()], along, value, rows)
        axes.set_title(str(phase).replace("_", " "))
    figure.axes[0].legend(fontsize="small")
    at = ", ".join(f"{SHAPE[axis]} {int(size):,}" for axis, size in point.items())
    figure.suptitle(f"{cells['title'].iloc[0]}\n{at}", fontsize="medium")
    return figure


def lines(axes: Axes, cells: pd.DataFrame, along: str, value: str, rows: list[str]) -> None:
    """One line per row, of one colour and marker in every panel; ticks at the sizes measured."""
    for number, row in enumerate(rows):
        medians = cells[cells["row"] == row].groupby(along)[value].median()
        if len(medians) > 1:
            marker, color = MARKERS[number % len(MARKERS)], f"C{number % 10}"
            axes.plot(medians.index, medians, marker=marker, color=color, label=row)
    sizes = sorted(set(cells[along]))
    axes.set_xticks(sizes, [f"{int(size):,}" for size in sizes])
    axes.set_xticks([], minor=True)


def roofline(cells: pd.DataFrame) -> Figure | None:
    """FLOP/s against FLOPs per compulsory byte, below the copy's slope and the GEMM's ceiling."""
    cells = cells[cells["dtype"] == cells["dtype"].mode().iloc[0]]
    if (
        "roof_flops_per_s" not in cells
        or (cells := cells.dropna(subset=["roof_flops_per_s"])).empty
    ):
        return None
    intensity = cells["flops"] / cells["bytes_moved"]
    slope, ceiling = cells["roof_bytes_per_s"].median(), cells["roof_flops_per_s"].median()
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    ends = sorted({intensity.min() / 2, ceiling / slope, max(intensity.max(), ceiling / slope) * 2})
    axes.plot(ends, [min(slope * x, ceiling) for x in ends], color="black", label="measured roof")
    for number, (layer, points) in enumerate(cells.groupby("layer")):
        axes.plot(
            intensity[points.index],
            points["flops_per_s"],
            MARKERS[number % len(MARKERS)],
            alpha=0.7,
            label=layer,
        )
    axes.set(xscale="log", yscale="log", xlabel="FLOPs per byte", ylabel="FLOP/s")
    axes.set_title(f"{cells['title'].iloc[0]}: roofline, {cells['dtype'].iloc[0]}")
    axes.legend(fontsize="small")
    return figure
