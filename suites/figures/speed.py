"""Scaling and roofline of a speed suite; all axes are logarithmic."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suites.figures.style import keyed, plain_numbers, points, styles, titled
from suites.records.names import CONTROLS
from suites.records.record import ResultFile
from suites.tables.speed import row_name

# axis of a case → its letter in the paper
SHAPE = {"tokens": "T", "dim": "D", "experts": "N", "active_experts": "hk"}
GIGA = 1e9
# metric → label of its axis, its unit
UNITS = {"median_s": ("time (ms)", 1e-3), "peak_bytes": ("peak memory (MiB)", 2**20)}


def figures(files: list[ResultFile]) -> dict[str, Figure]:
    """Time and memory against T, time against N, and the roofline, as far as records give them."""
    cells = pd.DataFrame([flat(file, record) for file in files for record in file.records])
    cells = cells[(cells["status"] == "ok") & (cells["repeat"] == 0)]
    timed = cells[~cells["layer"].isin(CONTROLS)]
    if timed.empty:
        return {}
    drawn = {
        "time-tokens": scaling(timed, "tokens", "median_s"),
        "time-experts": scaling(timed, "experts", "median_s"),
        "memory-tokens": scaling(timed, "tokens", "peak_bytes"),
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


def scaling(cells: pd.DataFrame, along: str, value: str) -> Figure | None:
    """One panel per phase: `value` against `along`, everything else held where most points are."""
    plain, point, phases = along_one(cells, along)
    if not phases:
        return None
    looks = styles(sorted(set(plain["row"])))
    figure = Figure(figsize=(5.5 * len(phases), 4.8), layout="constrained")
    for panel, phase in enumerate(phases):
        axes = figure.add_subplot(1, len(phases), panel + 1)
        shown = plain[plain["phase"] == phase]
        axes.set(
            xscale="log", yscale="log", xlabel=f"{along} {SHAPE[along]}", ylabel=UNITS[value][0]
        )
        lines(axes, shown[shown[value].notna()], along, value, looks)
        axes.set_title(str(phase).replace("_", " "))
    keyed(figure)
    what = "Time, with its quartiles," if value == "median_s" else "Peak memory"
    titled(figure, f"{what} against {along} at {stated(point)} ({cells['title'].iloc[0]})")
    return figure


def along_one(cells: pd.DataFrame, along: str) -> tuple[pd.DataFrame, dict[str, int], list[str]]:
    """Cells that differ in `along` alone, at the point of all other sizes where most are; that point; the
    phases that have several sizes, none where no phase has."""
    plain = cells[cells["routing"] == "uniform"]
    plain = plain[plain["matched"].isna() | (plain["matched"] == "forward_flops")]
    plain = plain[plain["dtype"] == plain["dtype"].mode().iloc[0]]
    held = [axis for axis in SHAPE if axis != along]
    spread = plain.groupby(held)[along].nunique()
    if spread.empty or spread.max() < 2:
        return plain, {}, []
    point = dict(zip(held, spread.idxmax(), strict=True))
    for axis, at in point.items():
        plain = plain[plain[axis] == at]
    phases = [str(p) for p, group in plain.groupby("phase") if group[along].nunique() > 1]
    return plain, point, phases


def stated(point: dict[str, int]) -> str:
    return ", ".join(f"{SHAPE[axis]} {int(size):,}" for axis, size in point.items())


def lines(
    axes: Axes, cells: pd.DataFrame, along: str, value: str, looks: dict[str, dict[str, Any]]
) -> None:
    """One line per row, its bars the quartiles of a time; ticks at the sizes measured."""
    unit = UNITS[value][1]
    for row, look in looks.items():
        own = cells[cells["row"] == row].groupby(along)
        medians = own[value].median() / unit
        if len(medians) > 1:
            spread = None
            if value == "median_s":
                quartiles = own["quartile1_s"].median() / unit, own["quartile3_s"].median() / unit
                spread = [medians - quartiles[0], quartiles[1] - medians]
            axes.errorbar(medians.index, medians, yerr=spread, capsize=2, **look)
    plain_numbers(axes, "y")
    sizes = sorted(set(cells[along]))
    axes.set_xticks(sizes, [f"{int(size):,}" for size in sizes])
    axes.set_xticks([], minor=True)


def roofline(cells: pd.DataFrame) -> Figure | None:
    """FLOP/s against FLOPs per compulsory byte, below the copy's slope and the GEMM's ceiling."""
    found = under_roof(cells)
    if found is None:
        return None
    cells, ends, roof = found
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(ends, roof, color="black", label="measured roof")
    intensity = cells["flops"] / cells["bytes_moved"]
    looks = styles(sorted(set(cells["layer"])))
    for layer, own in cells.groupby("layer"):
        look = points(looks[str(layer)])
        axes.plot(intensity[own.index], own["flops_per_s"] / GIGA, alpha=0.7, **look)
    axes.set(xscale="log", yscale="log", xlabel="FLOPs per byte", ylabel="GFLOP/s")
    for axis in ("x", "y"):
        plain_numbers(axes, axis)
    keyed(figure)
    titled(
        figure,
        f"How near each cell comes to the roof that a copy and a GEMM measured "
        f"({cells['title'].iloc[0]}, {cells['dtype'].iloc[0]})",
    )
    return figure


def under_roof(cells: pd.DataFrame) -> tuple[pd.DataFrame, list[float], list[float]] | None:
    """Cells of the commonest dtype whose run measured a roof; its corners in FLOPs per byte and GFLOP/s."""
    cells = cells[cells["dtype"] == cells["dtype"].mode().iloc[0]]
    if (
        "roof_flops_per_s" not in cells
        or (cells := cells.dropna(subset=["roof_flops_per_s"])).empty
    ):
        return None
    intensity = cells["flops"] / cells["bytes_moved"]
    slope, ceiling = cells["roof_bytes_per_s"].median(), cells["roof_flops_per_s"].median()
    ends = sorted({intensity.min() / 2, ceiling / slope, max(intensity.max(), ceiling / slope) * 2})
    return cells, ends, [min(slope * x, ceiling) / GIGA for x in ends]
