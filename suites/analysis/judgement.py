"""Whether records bear out a claim, from differences that are paired by seed and so by data order.

Seeds are the only repetitions: a run of each side with one seed saw the same batches in the same
order, and the difference of their losses is one value. Intervals are Student's, 95 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from scipy import stats

from suites.analysis.statistics import CONFIDENCE, LOSS_TOLERANCE_NATS, noncentrality

Kind = Literal["below", "same"]
Word = Literal["agrees", "disagrees"]
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Interval:
    """Mean of the paired differences with its interval; without one where there is a single seed."""

    mean: float
    low: float | None
    high: float | None
    deviation: float | None
    seeds: int
    freedom: int = 0  # degrees, of `deviation`

    @property
    def error(self) -> float | None:
        """Standard error of the mean; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return (self.high - self.low) / 2 / quantile(self.freedom)


@dataclass(frozen=True)
class Judgement:
    """What records say of one claim; `verdicts` decides on the claims of a family together.

    `p` is the chance, of either sign, of so much in favour of the word if there were nothing in it; None
    where there is no test, and `otherwise` is said where there is none or it decides nothing.
    """

    interval: Interval | None
    otherwise: str
    favours: Word = "agrees"
    p: float | None = None

    @property
    def verdict(self) -> str:
        """Of this claim as if it were the only one."""
        return verdicts([self])[0]


def paired(one: dict[int, float], other: dict[int, float]) -> list[float]:
    """`one` − `other` for every seed that both have."""
    return [one[seed] - other[seed] for seed in sorted(one) if seed in other]


def interval(differences: list[float]) -> Interval:
    """Student's interval of the mean; needs one value, and two for bounds."""
    count, mean = len(differences), float(np.mean(differences))
    if count < 2:
        return Interval(mean, None, None, None, count)
    deviation = float(np.std(differences, ddof=1))
    reach = quantile(count - 1) * deviation / math.sqrt(count)
    return Interval(mean, mean - reach, mean + reach, deviation, count, count - 1)


def quantile(freedom: int) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))


def judge(
    found: Interval,
    kind: Kind,
    effect: float | None,
    tolerance: float = LOSS_TOLERANCE_NATS,
) -> Judgement:
    """On "the mean difference is below 0", or on "it is the same", within ± `tolerance`.

    `effect` > 0 is how far below 0 the source reports it. Records disagree with a claim of less where they
    exclude all that is half as large as `effect` (without one, `tolerance`), and with one of the same
    where they exclude 0; with it they agree where they exclude what is not `tolerance` near.
    """
    if found.error is None or found.deviation is None:
        return Judgement(found, "undecided (one seed says nothing)")
    below = partial(lower_tail, found)
    if kind == "same":
        agrees = max(below(tolerance), 1 - below(-tolerance))
        disagrees = min(below(0.0), 1 - below(0.0))
        target = tolerance
    else:
        agrees, disagrees = below(0.0), 1 - below(-(effect / 2 if effect else tolerance))
        target = effect or max(abs(found.mean), tolerance)
    # Surely below 0, and surely less than half the effect: the sentence says no more than "below".
    agreeing = agrees <= max(disagrees, (1 - CONFIDENCE) / 2)
    return Judgement(
        found,
        f"undecided (would need {seeds_needed(found.deviation, target)} seeds)",
        "agrees" if agreeing else "disagrees",
        min(1.0, 2 * (agrees if agreeing else disagrees)),
    )


def lower_tail(found: Interval, value: float) -> float:
    """Chance of a mean as low or lower, were `value` the truth."""
    gap = found.mean - value
    if not found.error:
        return 0.5 * (1 + float(np.sign(gap)))
    return float(stats.t.cdf(gap / found.error, found.freedom))


def verdicts(family: Sequence[Judgement]) -> list[str]:
    """A word for each: agrees, disagrees, undecided (why), not testable at this scale (why), not run.

    Agreement and disagreement by Holm's procedure (Scandinavian Journal of Statistics 6, 1979): with
    probability 95 % none in the whole family is by chance.
    """
    tested = sorted((one.p, number) for number, one in enumerate(family) if one.p is not None)
    words = [one.otherwise for one in family]
    for rank, (p, number) in enumerate(tested):
        if p * (len(tested) - rank) > 1 - CONFIDENCE:
            break
        words[number] = family[number].favours
    return words


def seeds_needed(deviation: float, effect: float) -> str:
    """Smallest number of pairs that finds `effect` with probability 0.9 when pairs spread by `deviation`."""
    for count in range(2, MOST_SEEDS + 1):
        if effect * math.sqrt(count) >= deviation * noncentrality(count - 1):
            return str(count)
    return f"more than {MOST_SEEDS:,}"
