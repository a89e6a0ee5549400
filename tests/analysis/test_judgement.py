"""Verdicts on constructed differences."""

import numpy as np
import pytest
from scipy import stats

from suites.analysis.judgement import interval, judge, paired, seeds_needed


def test_pairs_are_by_seed() -> None:
    assert paired({0: 2.0, 1: 3.0, 5: 1.0}, {1: 1.0, 0: 1.5, 7: 0.0}) == [0.5, 2.0]


def test_interval_is_students() -> None:
    differences = [-0.12, -0.10, -0.15, -0.09]
    found = interval(differences)
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.seeds == 4


@pytest.mark.parametrize(
    ("differences", "kind", "effect", "verdict"),
    [
        ([-0.14, -0.15, -0.16], "below", 0.145, "reproduced"),
        ([0.14, 0.15, 0.16], "below", 0.145, "not reproduced"),
        # Below 0 in mean, but all that is half the paper's effect is excluded.
        ([-0.003, 0.002, -0.001], "below", 0.145, "not reproduced"),
        ([-0.003, 0.002, -0.001], "below", None, "not reproduced"),
        # Smaller than the paper's, and certain.
        ([-0.010, -0.011, -0.012], "below", 0.145, "reproduced"),
        ([-0.30, 0.10, -0.05], "below", 0.145, "undecided (would need 23 seeds)"),
        ([-0.14], "below", 0.145, "undecided (one seed says nothing)"),
        ([], "below", 0.145, "not run at this scale"),
        ([0.001, -0.002, 0.001], "same", None, "reproduced"),
        ([0.101, 0.098, 0.102], "same", None, "not reproduced"),
        ([0.05, -0.05, 0.01], "same", None, "undecided (would need 85 seeds)"),
        # Identical runs are certain.
        ([-0.1, -0.1, -0.1], "below", 0.1, "reproduced"),
        ([0.0, 0.0, 0.0], "same", None, "reproduced"),
    ],
)
def test_verdicts(differences: list[float], kind, effect, verdict: str) -> None:
    assert judge(differences, kind, effect).verdict == verdict


def test_seeds_needed_find_the_effect_nine_times_in_ten() -> None:
    generator = np.random.default_rng(0)
    seeds = int(seeds_needed(0.03, 0.02))
    assert seeds == 26
    for count, (least, most) in {seeds: (0.88, 0.93), seeds // 3: (0.0, 0.6)}.items():
        drawn = generator.normal(-0.02, 0.03, (4000, count))
        found = stats.ttest_1samp(drawn, 0, axis=1)
        rate = np.mean((found.pvalue < 0.05) & (found.statistic < 0))
        assert least < rate < most


def test_seeds_needed_has_an_end() -> None:
    assert seeds_needed(1.0, 1e-4) == "more than 1,000"
