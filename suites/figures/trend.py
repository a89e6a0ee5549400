"""Effect against compute: PEER less each method over budgets, its line and band, and the paper's points."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suites.analysis.curves import curves
from suites.analysis.trend import Difference, Line, differences, line
from suites.figures.style import keyed, points, styles, titled
from suites.records.record import ResultFile
from suites.tables.trend import ONE, OTHERS, PAPER_FLOPS, published


def figures(files: list[ResultFile]) -> dict[str, Figure]:
    """A panel per method, all on one scale of nats; below 0 PEER is better."""
    found = curves(files)
    by_other = {other: rows for other in OTHERS if (rows := differences(found, ONE, other))}
    drawn = Figure(figsize=(4 * len(by_other), 4.2), layout="constrained")
    looks = styles(by_other)
    panels = drawn.subplots(1, len(by_other), squeeze=False, sharex=True, sharey=True)[0]
    for axes, (other, rows) in zip(panels, by_other.items(), strict=True):
        axes.axhline(0, color="black", linewidth=0.8)
        look = looks[other]
        measured(axes, rows, look)
        if (fitted := line(rows)) is not None:
            extrapolated(axes, fitted, rows, look["color"])
        paper = [published(other, rank) for rank in range(len(PAPER_FLOPS))]
        if None not in paper:
            axes.plot(PAPER_FLOPS, paper, "k*", markersize=9, label="the paper, C4")
        axes.set(xscale="log", xlabel="training FLOPs")
        axes.set_title(f"PEER less {look['label']}", fontsize="medium")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("difference of optimal losses (nats / token)")
    keyed(drawn)
    titled(
        drawn,
        f"Where PEER's distance to each method heads as compute grows ({files[0].suite}, profile "
        f"{files[0].profile}; bars and bands are 95 % intervals, the dashed line extrapolates)",
    )
    return {"compute_trend": drawn}


def measured(axes: Axes, rows: list[Difference], look: dict[str, Any]) -> None:
    x = [row.budget_flops for row in rows]
    found = [row.interval for row in rows]
    mean = np.array([one.mean for one in found])
    reach = [0.0 if one.high is None else one.high - one.mean for one in found]
    axes.errorbar(x, mean, yerr=reach, markersize=5, capsize=2, **points(look))


def extrapolated(axes: Axes, fitted: Line, rows: list[Difference], color: str) -> None:
    inside = rows[-1].budget_flops
    x = np.geomspace(rows[0].budget_flops, PAPER_FLOPS[-1], 120)
    values = [fitted.at(budget) for budget in x]
    mean = np.array([one.mean for one in values])
    axes.plot(x[x <= inside], mean[x <= inside], color=color)
    axes.plot(x[x >= inside], mean[x >= inside], color=color, linestyle="--")
    low = np.array([one.low for one in values], dtype=float)
    high = np.array([one.high for one in values], dtype=float)
    axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
