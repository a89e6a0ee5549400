"""Verdicts on constructed differences."""

import numpy as np
import pytest
from scipy import stats

from suites.analysis.judgement import Judgement, interval, judge, paired, seeds_needed, verdicts


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
        ([-0.14, -0.15, -0.16], "below", 0.145, "agrees"),
        ([0.14, 0.15, 0.16], "below", 0.145, "disagrees"),
        # Below 0 in mean, but all that is half the paper's effect is excluded.
        ([-0.003, 0.002, -0.001], "below", 0.145, "disagrees"),
        ([-0.003, 0.002, -0.001], "below", None, "disagrees"),
        # Smaller than the paper's, and certain.
        ([-0.010, -0.011, -0.012], "below", 0.145, "agrees"),
        ([-0.30, 0.10, -0.05], "below", 0.145, "undecided (would need 23 seeds)"),
        ([-0.14], "below", 0.145, "undecided (one seed says nothing)"),
        ([0.001, -0.002, 0.001], "same", None, "agrees"),
        ([0.101, 0.098, 0.102], "same", None, "disagrees"),
        ([0.05, -0.05, 0.01], "same", None, "undecided (would need 85 seeds)"),
        # Identical runs are certain.
        ([-0.1, -0.1, -0.1], "below", 0.1, "agrees"),
        ([0.0, 0.0, 0.0], "same", None, "agrees"),
    ],
)
def test_verdicts(differences: list[float], kind, effect, verdict: str) -> None:
    assert judge(interval(differences), kind, effect).verdict == verdict


def test_p_is_of_the_t_test() -> None:
    differences = [-0.12, -0.10, -0.15, -0.02]
    judged = judge(interval(differences), "below", 0.145)
    assert judged.favours == "agrees"
    assert judged.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    against = judge(interval([-x for x in differences]), "below", 0.1)
    shifted = stats.ttest_1samp([0.05 - x for x in differences], 0)
    assert against.favours == "disagrees"
    assert against.p == pytest.approx(shifted.pvalue)


def test_a_family_is_decided_by_holms_procedure() -> None:
    def one(p: float | None) -> Judgement:
        return Judgement(None, "undecided", "agrees", p)

    # 0.01 · 4 and 0.0151 · 3 pass, 0.03 · 2 does not, so 0.04 does not either.
    family = [one(0.04), one(0.01), one(None), one(0.0151), one(0.03)]
    assert [j.verdict for j in family] == ["agrees", "agrees", "undecided", "agrees", "agrees"]
    assert verdicts(family) == ["undecided", "agrees", "undecided", "agrees", "undecided"]
    generator = np.random.default_rng(0)
    drawn = generator.normal(0, 1, (250, 10, 3))
    wrong = 0
    for claims in drawn:
        judged = [judge(interval(list(seeds)), "same", None, 1e-9) for seeds in claims]
        wrong += any(word == "disagrees" for word in verdicts(judged))
    assert 4 <= wrong <= 24  # of 250 families without an effect, 5 %


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
