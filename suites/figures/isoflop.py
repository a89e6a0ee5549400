"""Figure 1: validation perplexity against parameters, one panel per budget, with the fitted parabolas."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from suites.analysis.curves import Curve, curves
from suites.figures.style import keyed, points, styles, titled
from suites.records.record import ResultFile


def figures(files: list[ResultFile]) -> dict[str, Figure]:
    """A panel per budget."""
    found = curves(files)
    budgets = sorted({curve.budget_flops for curve in found})
    looks = styles(curve.label for curve in found)
    drawn = Figure(figsize=(6 * len(budgets), 5.2), layout="constrained")
    panels = drawn.subplots(1, len(budgets), squeeze=False)[0]
    for axes, budget in zip(panels, budgets, strict=True):
        for curve in found:
            if curve.budget_flops == budget:
                draw(axes, curve, looks[curve.label])
        axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel="validation perplexity")
        axes.set_title(f"{budget:.2g} training FLOPs")
        axes.yaxis.set_major_locator(MaxNLocator(8))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.3)
    keyed(drawn)
    titled(
        drawn,
        f"Each method has a best size at a training budget ({files[0].suite}, profile "
        f"{files[0].profile}; bars are ± one standard deviation over seeds, crosses the fitted minima)",
    )
    return {"isoflop": drawn}


def draw(axes: Axes, curve: Curve, look: dict[str, Any]) -> None:
    sizes = curve.points
    perplexity = np.exp(sizes["loss"])
    spread = np.exp(sizes["loss"] + sizes["std"].fillna(0)) - perplexity
    axes.errorbar(
        sizes["parameters"], perplexity, yerr=spread, markersize=5, capsize=2, **points(look)
    )
    line = {"color": look["color"], "linestyle": look["linestyle"]}
    if len(sizes) > 2:
        x = np.linspace(curve.x[0], curve.x[-1], 100)
        axes.plot(np.exp(x), np.exp(np.polyval(curve.parabola, x)), alpha=0.6, **line)
    if curve.optimum is not None:
        best = curve.optimum.parameters, np.exp(curve.optimum.loss)
        axes.plot(*best, "x", color=look["color"], ms=9)
