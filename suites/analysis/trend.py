"""Effect against compute: the difference of two methods' optimal losses over budgets, and where it heads.

The estimator of a method at a budget is one everywhere: per seed the minimum of the parabola through
its ladder (`Curve.loss_by_seed`). Differences are paired by seed, so by data order; the trend is a
straight line in log10 of the budget through all of them, its bands Student's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize

from suites.analysis.curves import Curve
from suites.analysis.judgement import Interval, interval, paired, quantile

FEWEST_BUDGETS = 3  # below it a line has nothing to be tested on
FEWEST_FOR_LAW = 4  # of a law's three numbers
UNIT_FLOPS = 1e12  # of compute in the scaling law, so that its numbers are of order 1


@dataclass(frozen=True)
class Difference:
    """Loss of `one` less that of `other` at their optima, at one budget."""

    budget_flops: float
    by_seed: tuple[float, ...]
    unfit: str | None

    @property
    def interval(self) -> Interval:
        return interval(list(self.by_seed))


@dataclass(frozen=True)
class Line:
    """An ordinary least-squares line through (log10 of the budget, difference), with its bands."""

    x: np.ndarray
    y: np.ndarray

    @cached_property
    def fit(self) -> tuple[float, float]:
        """Slope in nats per decade, intercept at one FLOP."""
        slope, intercept = np.polyfit(self.x, self.y, 1)
        return float(slope), float(intercept)

    @cached_property
    def quantile(self) -> float:
        return quantile(len(self.x) - 2)

    @cached_property
    def deviation(self) -> float:
        """Of the residuals, with two degrees of freedom spent."""
        residuals = self.y - np.polyval(self.fit, self.x)
        return math.sqrt(float(residuals @ residuals) / (len(self.x) - 2))

    @cached_property
    def spread(self) -> float:
        return float(((self.x - self.x.mean()) ** 2).sum())

    def interval(self, mean: float, reach: float) -> Interval:
        count = len(self.x)
        return Interval(mean, mean - reach, mean + reach, self.deviation, count, count - 2)

    def slope(self) -> Interval:
        reach = self.quantile * self.deviation / math.sqrt(self.spread)
        mean = self.fit[0]
        return self.interval(mean, reach)

    def at(self, budget_flops: float) -> Interval:
        """The line's value there; the interval is of the mean, and widens with the distance."""
        x = math.log10(budget_flops)
        mean = float(np.polyval(self.fit, x))
        error = math.sqrt(1 / len(self.x) + (x - self.x.mean()) ** 2 / self.spread)
        reach = self.quantile * self.deviation * error
        return self.interval(mean, reach)

    def crossing(self) -> tuple[float, float | None, float | None]:
        """FLOPs at which the line is 0, with Fieller's interval; a bound is None where it has no end."""
        slope, intercept = self.fit
        # A budget too large for a float is no budget.
        place = power(-intercept / slope) if slope else math.inf
        scale = (self.quantile * self.deviation) ** 2
        mean = self.x.mean()
        # (intercept + slope·x)² ≤ t²s²(1/n + (x − mean)²/spread), a quadratic in x.
        a = slope**2 - scale / self.spread
        b = 2 * (slope * intercept + scale * mean / self.spread)
        c = intercept**2 - scale * (1 / len(self.x) + mean**2 / self.spread)
        inside = b * b - 4 * a * c
        if a <= 0 or inside < 0:
            return place, None, None
        low, high = sorted(((-b - math.sqrt(inside)) / (2 * a), (-b + math.sqrt(inside)) / (2 * a)))
        return place, power(low), power(high)


@dataclass(frozen=True)
class Law:
    """L(C) = `floor` + `scale` · (C / 10¹² FLOPs)^(−`exponent`), fitted to one method's optima."""

    floor: float
    scale: float
    exponent: float
    residual_nats: float

    def at(self, budget_flops: float) -> float:
        return float(self.floor + self.scale * (budget_flops / UNIT_FLOPS) ** -self.exponent)


def power(exponent: float) -> float:
    return 10.0**exponent if exponent < 300 else math.inf


def differences(found: list[Curve], one: str, other: str) -> list[Difference]:
    """By rising budget, of curves of one commit each; a budget that lacks either has no row.

    Of several commits at a budget the last stands.
    """
    by_budget: dict[float, dict[str, dict[str, Curve]]] = {}
    for curve in found:
        commits = by_budget.setdefault(curve.budget_flops, {})
        commits.setdefault(curve.commit, {})[curve.label] = curve
    rows = []
    for budget, commits in sorted(by_budget.items()):
        both = [methods for methods in commits.values() if one in methods and other in methods]
        if both and (values := paired(*(both[-1][name].loss_by_seed() for name in (one, other)))):
            unfit = [f"{n}: {why}" for n in (one, other) if (why := both[-1][n].unfit)]
            rows.append(Difference(budget, tuple(values), "; ".join(unfit) or None))
    return rows


def line(rows: list[Difference]) -> Line | None:
    """None below three budgets."""
    if len(rows) < FEWEST_BUDGETS:
        return None
    x = [math.log10(row.budget_flops) for row in rows for _ in row.by_seed]
    return Line(np.array(x), np.array([value for row in rows for value in row.by_seed]))


def law(losses: Mapping[float, float]) -> Law | None:
    """Fitted to budget → loss by least squares with floor ≥ 0 and exponent in (0, 1); None below four."""
    if len(losses) < FEWEST_FOR_LAW:
        return None
    compute = np.array(sorted(losses)) / UNIT_FLOPS
    values = np.array([losses[budget] for budget in sorted(losses)])

    def form(c: np.ndarray, floor: float, scale: float, exponent: float) -> np.ndarray:
        return floor + scale * c**-exponent

    start = (values.min() / 2, values.max() / 2, 0.1)
    bounds = ([0, 0, 1e-3], [values.min(), np.inf, 1.0])
    (floor, scale, exponent), _ = optimize.curve_fit(form, compute, values, start, bounds=bounds)
    residuals = values - form(compute, floor, scale, exponent)
    return Law(floor, scale, exponent, float(np.sqrt(np.mean(residuals**2))))
