"""Intervals against scipy's own, decisions at their limits."""

import numpy as np
import pytest
from scipy import stats

from suites.analysis.statistics import (
    EFFECT,
    MARGIN,
    Rounds,
    compare_rounds,
    decide,
    decide_runs,
    estimate,
    margin,
    noncentrality,
    trimmed,
    unpaired,
)


def rounds(head: float = 1.0, noise: float = 0.002, count: int = 7, seed: int = 0) -> Rounds:
    """Milliseconds with log-normal offsets per process; `head` is the true ratio."""
    base, again, other = 1e-3 * np.random.default_rng(seed).lognormal(0, noise, (3, count))
    return Rounds(base=base, again=again, head=head * other)


@pytest.mark.parametrize("count", [5, 7, 10, 14, 25])
def test_trimmed_mean_is_that_of_scipy(count: int) -> None:
    values = np.random.default_rng(0).standard_t(2, count)
    mean, error, freedom = trimmed(values)
    yuen = stats.ttest_ind(values, np.zeros(count), equal_var=False, trim=0.2)
    assert mean == pytest.approx(stats.trim_mean(values, 0.2))
    assert (mean / error, freedom) == pytest.approx((yuen.statistic, yuen.df))


def test_untrimmed_estimate_is_the_t_test() -> None:
    gaps = [0.031, 0.022, 0.040, 0.035]
    found = estimate(gaps)
    test = stats.ttest_1samp(gaps, MARGIN, alternative="greater")
    interval = stats.ttest_1samp(gaps, 0).confidence_interval()
    assert found.p_above == pytest.approx(test.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_unpaired_is_welch() -> None:
    base, head = [0.0, 0.01, -0.01], [0.1, 0.14, 0.09, 0.1]
    interval = stats.ttest_ind(head, base, equal_var=False).confidence_interval()
    found = unpaired(base, head)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_one_value_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least 2 values; got 1"):
        estimate([0.1])


def test_one_disturbed_round_moves_nothing() -> None:
    calm, disturbed = rounds(), rounds()
    disturbed.head[3] *= 2
    assert compare_rounds(disturbed).log_ratio == pytest.approx(
        compare_rounds(calm).log_ratio, abs=0.002
    )
    assert compare_rounds(disturbed).within_tolerance


def test_margin_is_the_largest_of_three() -> None:
    assert margin(rounds(noise=1e-6)) == MARGIN
    assert margin(rounds(noise=0.1)) > 3 * MARGIN
    short = Rounds(**{name: value / 1000 for name, value in vars(rounds(noise=1e-6)).items()})
    assert margin(short) == pytest.approx(np.log(2), rel=1e-3)  # 1 µs of 1 µs


@pytest.mark.parametrize(
    ("ratio", "noise", "decision"),
    [
        (1.0, 0.002, "within"),
        (1.06, 0.002, "above"),
        (0.94, 0.002, "below"),
        (1.01, 0.002, "within"),
        (1.04, 0.05, "undecided"),
    ],
)
def test_decisions(ratio: float, noise: float, decision: str) -> None:
    assert decide({"cell": compare_rounds(rounds(ratio, noise))}) == {"cell": decision}


def test_a_borderline_alarm_among_many_cells_is_none() -> None:
    gaps = [MARGIN + step for step in (0.001, 0.002, 0.003, 0.005)]
    alone = estimate(gaps, tolerance=EFFECT)
    assert 0.01 < alone.p_above < 0.025
    crowd = {str(n): compare_rounds(rounds(seed=n)) for n in range(20)}
    assert decide({"cell": alone})["cell"] == "above"
    assert decide({"cell": alone} | crowd)["cell"] != "above"


def test_a_change_of_one_run_is_not_confirmed() -> None:
    slow, same = rounds(1.30), rounds(1.0, seed=1)
    assert decide_runs({"cell": [slow]})["cell"][0] == "above"
    assert decide_runs({"cell": [slow, rounds(1.30, seed=2)]})["cell"][0] == "above"
    assert decide_runs({"cell": [slow, same]})["cell"][0] == "undecided"


def test_detectable_is_found_nine_times_in_ten() -> None:
    sample = np.random.default_rng(0).normal(0, 0.01, (400, 4))
    change = MARGIN + 0.01 / np.sqrt(4) * noncentrality(3)
    found = [estimate(row + change).low > MARGIN for row in sample]
    assert 0.85 < np.mean(found) < 0.97
