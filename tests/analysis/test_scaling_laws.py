"""The laws give the numbers that their sources print, and nothing outside their range."""

import re

import pytest

from suites.analysis.scaling_laws import (
    Mixture,
    by_experts,
    by_granularity,
    by_leverage,
    by_sparsity,
    granular_dense_optimum,
    granular_optimum,
    leverage,
    optimum,
    sparse,
)

INSIDE = Mixture(
    budget_flops=6e18, sparse_share=1, dim=1200, hidden=200, experts=255, active=7, shared=1
)
COARSE = Mixture(
    budget_flops=6e18, sparse_share=1, dim=512, hidden=2048, experts=32, active=1, shared=0
)


def changed(mixture: Mixture, **changes) -> Mixture:
    return Mixture(**vars(mixture) | changes)


@pytest.mark.parametrize(("budget", "gap"), [(6e18, -0.138), (2e19, -0.129)])
def test_compute_optimal_gap_of_32_experts(budget: float, gap: float) -> None:
    assert optimum(32, budget) - optimum(1, budget) == pytest.approx(gap, abs=2e-3)


def test_leverage_is_more_than_seven_at_1e22() -> None:
    assert leverage(0.031, 12, 1e22) == pytest.approx(7.24, abs=0.02)
    assert leverage(1 / 32, 12, 6e18) == pytest.approx(3.42, abs=0.01)
    best = max(range(2, 64), key=lambda granularity: leverage(0.031, granularity, 1e22))
    assert 8 <= best <= 12


def test_a_granular_optimum_is_that_of_the_source() -> None:
    """Its table 2: at 2.95e18 FLOPs 64 × 100M parameters, 4.37e9 tokens, loss 3.133, granularity 8."""
    loss, parameters, tokens = granular_optimum(8, 2.95e18)
    assert parameters * 12 / (8 * 64 + 4) == pytest.approx(100e6, rel=0.05)
    assert tokens == pytest.approx(4.37e9, rel=0.05)
    # Coefficients are printed rounded, which costs two hundredths.
    assert loss == pytest.approx(3.133, abs=0.025)


def test_sparsity_is_as_in_the_source() -> None:
    """Its appendix D.2: dense is best for small models at a fixed size, sparse for large."""
    assert sparse(0.5, 1e8, 2e10) - sparse(0, 1e8, 2e10) == pytest.approx(0.057, abs=1e-3)
    assert sparse(0, 1e9, 2e10) == pytest.approx(
        16612.50 * 1e9**-0.5962 + 5455.67 * 2e10**-0.3954 + 0.4598 + 17.26 * 1e9**-0.1595 + 0.94
    )
    assert by_sparsity(changed(COARSE, budget_flops=1e20, experts=2)).gap_nats == pytest.approx(
        -0.055, abs=1e-3
    )


def test_a_law_speaks_within_its_range() -> None:
    assert by_experts(COARSE).gap_nats == pytest.approx(-0.138, abs=2e-3)
    found = by_leverage(INSIDE)
    assert found.gap_nats == pytest.approx(
        optimum(1, 6e18 * leverage(8 / 256, 12, 6e18)) - optimum(1, 6e18)
    )
    assert found.reason.startswith("3.42 × the compute of dense")
    fine = by_granularity(changed(COARSE, experts=512, active=8, hidden=256))
    assert fine.gap_nats == granular_optimum(8, 6e18)[0] - granular_dense_optimum(6e18)


@pytest.mark.parametrize(
    ("law", "mixture", "reason"),
    [
        (by_experts, changed(COARSE, experts=64), "64 experts, fitted up to 32"),
        (by_experts, changed(COARSE, active=2), "2 experts a token, the law has 1"),
        (by_experts, changed(COARSE, sparse_share=0.25), "25% of the blocks are sparse"),
        (by_leverage, changed(INSIDE, budget_flops=5e11), "5e.11 FLOPs, fitted at 1e18 to 6e20"),
        (by_granularity, COARSE, "32 times as many experts as a token meets, the law has 64"),
        (by_granularity, changed(COARSE, hidden=1), "granularity 2.05e.03, fitted at 1 to 16"),
        (by_granularity, changed(COARSE, budget_flops=1e20), "1e.20 FLOPs, fitted at 3e17 to 7e19"),
        (by_sparsity, changed(INSIDE, budget_flops=1e20), "a shared expert, the law has none"),
        (by_sparsity, COARSE, "6e.18 FLOPs, fitted at 3e19 to 1e21"),
        (by_leverage, changed(INSIDE, hidden=1), "granularity 2.4e.03, fitted at 2 to 16"),
    ],
)
def test_outside_its_range_it_says_so(law, mixture: Mixture, reason: str) -> None:
    found = law(mixture)
    assert found.gap_nats is None
    assert found.reason.startswith("outside its range: ")
    assert re.search(reason, found.reason)
