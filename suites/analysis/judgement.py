"""Whether records bear out a claim, from differences that are paired by seed and so by data order.

Seeds are the only repetitions: a run of each side with one seed saw the same batches in the same
order, and the difference of their losses is one value. Intervals are Student's, 95 %.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from suites.analysis.statistics import CONFIDENCE, LOSS_TOLERANCE_NATS, noncentrality

Kind = Literal["below", "same"]
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Interval:
    """Mean of the paired differences with its interval; without one where there is a single seed."""

    mean: float
    low: float | None
    high: float | None
    deviation: float | None
    seeds: int


@dataclass(frozen=True)
class Judgement:
    """A verdict and the interval it rests on, None where nothing was run."""

    verdict: str
    interval: Interval | None


def paired(one: dict[int, float], other: dict[int, float]) -> list[float]:
    """`one` − `other` for every seed that both have."""
    return [one[seed] - other[seed] for seed in sorted(one) if seed in other]


def interval(differences: list[float]) -> Interval:
    """Student's interval of the mean; needs one value, and two for bounds."""
    count, mean = len(differences), float(np.mean(differences))
    if count < 2:
        return Interval(mean, None, None, None, count)
    deviation = float(np.std(differences, ddof=1))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * deviation / math.sqrt(count)
    return Interval(mean, mean - reach, mean + reach, deviation, count)


def judge(
    differences: list[float],
    kind: Kind,
    effect: float | None,
    tolerance: float = LOSS_TOLERANCE_NATS,
) -> Judgement:
    """The verdict on "the mean difference is below 0", or on "it is the same", within ± `tolerance`.

    `effect` > 0 is how far below 0 the source reports it. A claim of less is not reproduced where the
    interval lies above 0, or excludes all that is half as large as `effect` (without one, `tolerance`).
    """
    if not differences:
        return Judgement("not run at this scale", None)
    found = interval(differences)
    if found.low is None or found.high is None or found.deviation is None:
        return Judgement("undecided (one seed says nothing)", found)
    if kind == "same":
        within = -tolerance < found.low and found.high < tolerance
        apart = found.low > 0 or found.high < 0
        decided = "reproduced" if within else "not reproduced" if apart else None
        target = tolerance
    else:
        least = effect / 2 if effect else tolerance
        below, excluded = found.high < 0, found.low > -least
        decided = "reproduced" if below else "not reproduced" if excluded else None
        target = effect or max(abs(found.mean), tolerance)
    if decided is None:
        decided = f"undecided (would need {seeds_needed(found.deviation, target)} seeds)"
    return Judgement(decided, found)


def seeds_needed(deviation: float, effect: float) -> str:
    """Smallest number of pairs that finds `effect` with probability 0.9 when pairs spread by `deviation`."""
    for count in range(2, MOST_SEEDS + 1):
        if effect * math.sqrt(count) >= deviation * noncentrality(count - 1):
            return str(count)
    return f"more than {MOST_SEEDS:,}"
