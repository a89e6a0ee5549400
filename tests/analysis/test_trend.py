"""Trends and laws come out where they are known; a difference is paired, and of one commit."""

import math

import numpy as np
import pytest

from suites.analysis.curves import curves
from suites.analysis.trend import Difference, Law, Line, differences, law, line
from suites.tables import TABLES
from tests.lab import result_file, training, training_case

BUDGETS = (1e11, 1e12, 1e13)


def rows(slope: float, zero_at: float, noise: float = 0.0) -> list[Difference]:
    shifts = (-noise, 0.0, noise)
    return [
        Difference(b, tuple(slope * math.log10(b / zero_at) + shift for shift in shifts), None)
        for b in BUDGETS
    ]


def test_a_line_without_noise_is_found_exactly() -> None:
    found = line(rows(slope=-0.02, zero_at=1e14))
    assert found is not None
    assert found.slope().mean == pytest.approx(-0.02)
    place, low, high = found.crossing()
    assert (place, low, high) == pytest.approx((1e14, 1e14, 1e14), rel=1e-4)
    assert found.at(1e18).mean == pytest.approx(-0.08)


def test_its_bands_are_those_of_ordinary_least_squares() -> None:
    x = np.array([11, 11, 12, 12, 13, 13], dtype=float)
    y = np.array([0.30, 0.28, 0.21, 0.22, 0.11, 0.10])
    found = Line(x, y)
    design = np.stack([np.ones(6), x], axis=1)
    beta = np.linalg.solve(design.T @ design, design.T @ y)
    variance = ((y - design @ beta) ** 2).sum() / 4 * np.linalg.inv(design.T @ design)
    at = np.array([1.0, 15.0])
    reach = 2.776445105 * math.sqrt(
        at @ variance @ at
    )  # Student's 97.5 % with 4 degrees of freedom
    far = found.at(1e15)
    assert (far.low, far.high) == pytest.approx((at @ beta - reach, at @ beta + reach))
    slope = found.slope()
    assert slope.high == pytest.approx(beta[1] + 2.776445105 * math.sqrt(variance[1, 1]))


def test_the_crossing_is_where_the_band_leaves_zero() -> None:
    found = line(rows(slope=-0.05, zero_at=1e12, noise=0.01))
    assert found is not None
    place, low, high = found.crossing()
    assert low is not None
    assert high is not None
    assert low < place < high
    assert found.at(low).low == pytest.approx(0, abs=1e-9) or found.at(low).high == (
        pytest.approx(0, abs=1e-9)
    )
    flat = line(rows(slope=0.001, zero_at=1e12, noise=0.2))
    assert flat is not None
    assert flat.crossing()[1:] == (None, None)


def test_two_budgets_have_no_trend_and_three_no_law() -> None:
    assert line(rows(-0.02, 1e12)[:2]) is None
    assert law({1e11: 2.0, 1e12: 1.8, 1e13: 1.7}) is None


def test_a_law_is_found_where_losses_follow_one() -> None:
    truth = Law(floor=1.1, scale=0.6, exponent=0.12, residual_nats=0.0)
    found = law({budget: truth.at(budget) for budget in np.geomspace(1e11, 1e15, 6)})
    assert found is not None
    assert found.at(1e18) == pytest.approx(truth.at(1e18), rel=1e-3)
    assert found.residual_nats < 1e-6


def file(commit: str, gap_per_decade: float, budgets=BUDGETS):
    records = []
    for budget in budgets:
        for layer in ("dense", "peer", "pkm"):
            for seed in (0, 1, 2):
                loss = 2.0 - 0.1 * math.log10(budget / 1e11) + 0.01 * seed
                if layer == "peer":
                    loss += 0.02 + gap_per_decade * math.log10(budget / 1e11)
                record = training(
                    layer, seed, loss, parameters=1000, active_parameters=900, steps=100,
                    tokens=25600, training_flops=budget, evaluation_tokens=100,
                )  # fmt: skip
                case = training_case(layer, {}, seed, budget)
                records.append(record.model_copy(update={"case": case}))
    return result_file(commit, records, suite="compute_trend")


def test_differences_pair_seeds_and_prefer_the_last_commit() -> None:
    old, new = file("a" * 40, 0.0, BUDGETS[:1]), file("b" * 40, -0.03)
    found = differences(curves([old, new]), "peer", "dense")
    assert [one.budget_flops for one in found] == list(BUDGETS)
    assert found[0].by_seed == pytest.approx((0.02, 0.02, 0.02))
    assert found[2].by_seed == pytest.approx((-0.04, -0.04, -0.04))
    assert found[0].unfit == "peer: 1 sizes; a parabola needs 3; dense: 1 sizes; a parabola needs 3"


def test_the_sheets_say_where_it_heads() -> None:
    at_budgets, trend = TABLES["compute_trend"]([file("b" * 40, -0.03)])
    assert list(at_budgets.frame["peer − method"])[:3] == pytest.approx([0.02, -0.01, -0.04])
    row = trend.frame.set_index("method").loc["dense"]
    assert row["nats per decade"] == pytest.approx(-0.03)
    assert row["zero at"] == pytest.approx(1e11 * 10 ** (2 / 3), rel=1e-6)
    assert row["paper at 6e+18"] == pytest.approx(math.log(20.68 / 22.24), abs=0.1)
    assert trend.csv().startswith("method,")
