"""Figure 1: validation perplexity against parameters, one panel per budget, with the fitted parabolas."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from suites.analysis.curves import Curve, curves
from suites.records.record import ResultFile

MARKERS = "osD^v<>pPX*"


def figures(files: list[ResultFile]) -> dict[str, Figure]:
    """One colour and marker per method in all panels."""
    found = curves(files)
    budgets = sorted({curve.budget_flops for curve in found})
    labels = list(dict.fromkeys(curve.label for curve in found))
    drawn = Figure(figsize=(6 * len(budgets), 4.8), layout="constrained")
    panels = drawn.subplots(1, len(budgets), squeeze=False)[0]
    for axes, budget in zip(panels, budgets, strict=True):
        for curve in found:
            if curve.budget_flops == budget:
                number = labels.index(curve.label)
                draw(axes, curve, f"C{number % 10}", MARKERS[number % len(MARKERS)])
        axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel="validation perplexity")
        axes.set_title(f"{budget:.2g} training FLOPs")
        axes.yaxis.set_major_locator(MaxNLocator(8))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
    drawn.suptitle(
        f"{files[0].suite}, profile {files[0].profile}: bars are ± one standard deviation over "
        "seeds, crosses the fitted minima",
        fontsize="medium",
    )
    return {"isoflop": drawn}


def draw(axes: Axes, curve: Curve, color: str, marker: str) -> None:
    points = curve.points
    perplexity = np.exp(points["loss"])
    spread = np.exp(points["loss"] + points["std"].fillna(0)) - perplexity
    axes.errorbar(
        points["parameters"],
        perplexity,
        yerr=spread,
        fmt=marker,
        color=color,
        markersize=4,
        capsize=2,
        label=curve.label,
    )
    if len(points) > 2:
        x = np.linspace(curve.x[0], curve.x[-1], 100)
        axes.plot(np.exp(x), np.exp(np.polyval(curve.parabola, x)), color=color, alpha=0.6)
    if curve.optimum is not None:
        axes.plot(curve.optimum.parameters, np.exp(curve.optimum.loss), "x", color=color, ms=9)
