"""Is HEAD slower than BASE, judged on logarithms of ratios that were taken in paired rounds.

Samples of one process say nothing about the next one: addresses, clocks and neighbours differ.
So a round is BASE, BASE again and HEAD, each in a fresh process, and only rounds are statistics.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

CONFIDENCE = 0.95
TRIM = 0.2  # of the rounds, at each end: one disturbed round in five moves nothing
MARGIN = np.log(1.02)  # a difference below this is never an alarm
EFFECT = np.log(1.05)  # SAME means that a difference of this size is excluded
MARGIN_SECONDS = 1e-6
# The smallest gap on C4 in the paper's Table 1 is 0.037 nats (PEER to MoE): half of it must show.
LOSS_MARGIN_NATS = 0.005
LOSS_TOLERANCE_NATS = 0.018


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """Medians in seconds of every round: shapes (R,), (R,) and (R,)."""

    base: np.ndarray
    again: np.ndarray
    head: np.ndarray

    def log_ratio(self) -> np.ndarray:
        return np.log(self.head) - (np.log(self.base) + np.log(self.again)) / 2

    def log_control(self) -> np.ndarray:
        return np.log(self.again) - np.log(self.base)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A log ratio HEAD / BASE with its two-sided interval; positive is slower, larger, worse."""

    log_ratio: float
    low: float
    high: float
    margin: float
    tolerance: float
    p_above: float
    p_below: float
    detectable: float

    @property
    def within_tolerance(self) -> bool:
        """Whether the interval excludes every change that matters."""
        return -self.tolerance < self.low and self.high < self.tolerance


def estimate(log_ratios: ArrayLike, margin: float = MARGIN, tolerance: float = EFFECT) -> Estimate:
    """The trimmed mean over rounds (or seeds) against ± `margin`; needs two values.

    `p_above` belongs to the hypothesis that the change is at most +margin, `p_below` to at least
    −margin. `detectable` is the change that is found beyond the margin with probability 0.9.
    """
    mean, error, freedom = trimmed(log_ratios)
    return against(mean, error, freedom, margin, tolerance)


def unpaired(base: list[float], head: list[float], margin: float = MARGIN) -> Estimate:
    """Welch's interval for log values of separate processes; needs two values on a side."""
    difference = stats.ttest_ind(head, base, equal_var=False)
    mean = float(np.mean(head) - np.mean(base))
    variances = [np.var(side, ddof=1) / np.size(side) for side in (base, head)]
    return against(mean, float(np.sqrt(sum(variances))), float(difference.df), margin, EFFECT)


def against(mean: float, error: float, freedom: float, margin: float, tolerance: float) -> Estimate:
    error = max(error, 1e-12)  # identical rounds are certain, not undefined
    half_width = error * stats.t.ppf((1 + CONFIDENCE) / 2, freedom)
    return Estimate(
        log_ratio=mean,
        low=mean - half_width,
        high=mean + half_width,
        margin=margin,
        tolerance=tolerance,
        p_above=float(stats.t.sf((mean - margin) / error, freedom)),
        p_below=float(stats.t.cdf((mean + margin) / error, freedom)),
        detectable=margin + error * noncentrality(freedom),
    )


@cache
def noncentrality(freedom: float) -> float:
    """Distance beyond the margin, in standard errors, that the test finds with probability 0.9."""
    critical = stats.t.ppf((1 + CONFIDENCE) / 2, freedom)
    return float(
        optimize.brentq(lambda shift: stats.nct.sf(critical, freedom, shift) - 0.9, 0, 1000)
    )


def trimmed(values: ArrayLike) -> tuple[float, float, int]:
    """Trimmed mean, its standard error and degrees of freedom after Tukey and McLaughlin (1963)."""
    ordered = np.sort(np.asarray(values, dtype=float))
    count = len(ordered)
    if count < 2:
        raise ValueError(f"an interval needs at least 2 values; got {count}")
    cut = int(TRIM * count)
    kept = count - 2 * cut
    winsorized = np.clip(ordered, ordered[cut], ordered[count - cut - 1])
    squares = (count - 1) * winsorized.var(ddof=1)
    return ordered[cut : count - cut].mean(), np.sqrt(squares / (kept * (kept - 1))), kept - 1


def margin(rounds: Rounds) -> float:
    """max(2 %, 3 × the spread of BASE against itself, 1 µs), as a log ratio.

    The spread is the standard error of a mean over the rounds, from the median absolute A/A
    difference, so that one disturbed process does not blind the cell.
    """
    control = np.abs(rounds.log_control())
    deviation = np.median(control) / stats.norm.ppf(0.75)
    return float(max(MARGIN, 3 * deviation / np.sqrt(len(control)), tick(rounds)))


def tick(rounds: Rounds) -> float:
    """One microsecond relative to BASE, as a log ratio."""
    return float(np.log1p(MARGIN_SECONDS / np.median(rounds.base)))


def compare_rounds(rounds: Rounds) -> Estimate:
    return estimate(rounds.log_ratio(), margin(rounds), max(EFFECT, tick(rounds)))


def join(runs: list[Rounds]) -> Rounds:
    return Rounds(
        base=np.concatenate([run.base for run in runs]),
        again=np.concatenate([run.again for run in runs]),
        head=np.concatenate([run.head for run in runs]),
    )


Decision = Literal["above", "below", "within", "undecided"]


def decide(estimates: dict[str, Estimate]) -> dict[str, Decision]:
    """Beyond the margin (false discovery rate 2.5 % a direction), within the tolerance, or open."""
    if not estimates:
        return {}
    level = (1 - CONFIDENCE) / 2
    above = stats.false_discovery_control([e.p_above for e in estimates.values()]) <= level
    below = stats.false_discovery_control([e.p_below for e in estimates.values()]) <= level
    return {
        name: "above"
        if up
        else "below"
        if down
        else "within"
        if e.within_tolerance
        else "undecided"
        for (name, e), up, down in zip(estimates.items(), above, below, strict=True)
    }


def decide_runs(runs: dict[str, list[Rounds]]) -> dict[str, tuple[Decision, Estimate]]:
    """Decides on all rounds of each cell; a change must also show in each of its runs by itself."""
    pooled = {name: compare_rounds(join(parts)) for name, parts in runs.items()}
    decisions = decide(pooled)
    for name, parts in runs.items():
        sign = {"above": 1, "below": -1}.get(decisions[name], 0)
        means = [trimmed(part.log_ratio())[0] for part in parts]
        if sign and min(sign * mean for mean in means) <= pooled[name].margin:
            decisions[name] = "undecided"
    return {name: (decisions[name], pooled[name]) for name in runs}
