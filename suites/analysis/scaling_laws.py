"""What published scaling laws predict for mixtures of experts, and where they say nothing.

All losses in nats per token. A law speaks of models whose every feed-forward is sparse, and outside the
range it was fitted on it is not extrapolated: it gives the reason instead of a number.
"""

import math
from dataclasses import dataclass

import numpy as np

EXPANSION = 64  # of Krajewski et al.: experts in all for those a token meets


@dataclass(frozen=True)
class Mixture:
    """A mixture of experts in a decoder, trained on `budget_flops`."""

    budget_flops: float
    sparse_share: float  # of the blocks
    dim: int
    hidden: int  # of one expert
    experts: int  # routed
    active: int  # of them per token
    shared: int  # always active


@dataclass(frozen=True)
class Prediction:
    """Loss less that of the compute-optimal dense model at the same budget, or why there is none."""

    law: str
    gap_nats: float | None
    reason: str


def joint(experts: int, parameters: float, tokens: float) -> float:
    """Loss of a top-1 mixture by Ludziejewski et al. (arXiv 2502.05172), eq. 6 and table 3.

    `parameters` are active ones, embeddings included; dense is one expert. With Ê for E and ln Ê = e:
    a · Ê^δ · N^(α + γe) + b · Ê^ω · D^(β + ζe) + c.
    """
    start, most = 2.0732, 290.4521
    effective = 1 / (1 / (experts - 1 + 1 / (1 / start - 1 / most)) + 1 / most)
    e = math.log(effective)
    by_parameters = 35.91 * effective**-0.2285 * parameters ** (-0.1889 + 0.0098 * e)
    by_tokens = 35.98 * effective**0.5529 * tokens ** (-0.1775 - 0.0259 * e)
    return by_parameters + by_tokens + 1.3637


def optimum(experts: int, budget_flops: float) -> float:
    """The lowest loss of `joint` over model sizes, with 6·N FLOPs per token."""
    sizes = np.geomspace(1e6, 1e12, 6001)
    return min(joint(experts, float(N), budget_flops / (6 * float(N))) for N in sizes)


def leverage(active_share: float, granularity: float, budget_flops: float) -> float:
    """Times the compute that a dense model needs for the same loss (arXiv 2507.17702, eq. 13, table 2).

    The source prints no bases: log10 of the budget and log2 of the granularity fit its own examples.
    """
    start, most = 0.0163, 5.28e16
    effective = 1 / (1 / (active_share + 1 / (1 / start - 1 / most)) + 1 / most)
    fine = math.log2(granularity)
    power = 1.23 - 0.0761 * math.log10(budget_flops) + 0.0167 * fine**2 - 0.117 * fine
    return effective**power


def granular(granularity: float, parameters: float, tokens: float) -> float:
    """Loss of a mixture 64 times its active size by Krajewski et al. (arXiv 2402.07871), eq. 9 and table 1.

    `parameters` are those of blocks in all; its experts are 4·dim / `granularity` wide.
    """
    by_parameters = (2.1 / granularity**0.58 + 18.1) / parameters**0.115
    return by_parameters + 30.8 / tokens**0.147 + 0.47


def granular_dense(parameters: float, tokens: float) -> float:
    """Loss of the dense models of the same source."""
    return 16.3 / parameters**0.126 + 26.7 / tokens**0.127 + 0.47


def granular_optimum(granularity: float, budget_flops: float) -> tuple[float, float, float]:
    """The lowest loss of `granular` over widths, its parameters and tokens; the router's FLOPs counted.

    Blocks number dim / 64. A token costs (72·dim² + 14·dim·64·granularity) FLOPs in each.
    """
    dims = np.geomspace(64, 65536, 2001)
    blocks = dims / 64
    tokens = budget_flops / ((72 * dims**2 + 14 * dims * EXPANSION * granularity) * blocks)
    parameters = dims**2 * blocks * (8 * EXPANSION + 4)
    pairs = [(float(N), float(D)) for N, D in zip(parameters, tokens, strict=True)]
    return min((granular(granularity, *pair), *pair) for pair in pairs)


def granular_dense_optimum(budget_flops: float) -> float:
    sizes = np.geomspace(1e6, 1e12, 6001)
    return min(granular_dense(float(N), budget_flops / (6 * float(N))) for N in sizes)


def sparse(sparsity: float, parameters: float, tokens: float) -> float:
    """Loss of a mixture by Abnar et al. (arXiv 2501.12370), eq. 6 and table 3.

    `sparsity` is the share of experts that a token does not meet, `parameters` are all.
    """
    met = 1 - sparsity
    by_size = 16612.50 / parameters**0.5962 + 5455.67 / tokens**0.3954
    return by_size + 0.4598 * met**0.1666 + 17.26 / (met**0.1603 * parameters**0.1595) + 0.94


def sparse_optimum(sparsity: float, budget_flops: float) -> float:
    """The lowest loss of `sparse` over sizes: 4 of 12 parts of a dense block are attention."""
    sizes = np.geomspace(1e6, 1e13, 7001)
    active = 12 / (4 + 8 / (1 - sparsity))
    return min(sparse(sparsity, float(N), budget_flops / (6 * active * float(N))) for N in sizes)


def predictions(mixture: Mixture) -> list[Prediction]:
    """Of every law, about one mixture."""
    laws = by_experts, by_leverage, by_granularity, by_sparsity
    return [law(mixture) for law in laws]


def by_experts(mixture: Mixture) -> Prediction:
    law = "joint MoE law (2502.05172)"
    reasons = everywhere(mixture)
    if mixture.active + mixture.shared != 1:
        reasons.append(f"{mixture.active + mixture.shared} experts a token, the law has 1")
    if mixture.experts > 32:
        reasons.append(f"{mixture.experts} experts, fitted up to 32")
    if reasons:
        return Prediction(law, None, outside(reasons))
    gap = optimum(mixture.experts, mixture.budget_flops) - optimum(1, mixture.budget_flops)
    return Prediction(law, gap, "")


def by_leverage(mixture: Mixture) -> Prediction:
    law = "leverage law (2507.17702)"
    active = (mixture.active + mixture.shared) / (mixture.experts + mixture.shared)
    granularity = 2 * mixture.dim / mixture.hidden
    reasons = everywhere(mixture)
    if not 1e18 <= mixture.budget_flops <= 6e20:
        reasons.append(f"{mixture.budget_flops:.3g} FLOPs, fitted at 1e18 to 6e20")
    if not 2 <= granularity <= 16:
        reasons.append(f"granularity {granularity:.3g}, fitted at 2 to 16")
    if reasons:
        return Prediction(law, None, outside(reasons))
    times = leverage(active, granularity, mixture.budget_flops)
    gap = optimum(1, times * mixture.budget_flops) - optimum(1, mixture.budget_flops)
    return Prediction(law, gap, f"{times:.2f} × the compute of dense, in nats by the joint law")


def by_granularity(mixture: Mixture) -> Prediction:
    law = "granularity law (2402.07871)"
    granularity = 4 * mixture.dim / mixture.hidden
    times = (mixture.experts + mixture.shared) / (mixture.active + mixture.shared)
    reasons = everywhere(mixture)
    if mixture.shared:
        reasons.append("a shared expert, the law has none")
    if round(times) != EXPANSION:
        reasons.append(
            f"{times:.0f} times as many experts as a token meets, the law has {EXPANSION}"
        )
    if not 1 <= granularity <= 16:
        reasons.append(f"granularity {granularity:.3g}, fitted at 1 to 16")
    if not 3e17 <= mixture.budget_flops <= 7e19:
        reasons.append(f"{mixture.budget_flops:.3g} FLOPs, fitted at 3e17 to 7e19")
    if reasons:
        return Prediction(law, None, outside(reasons))
    loss, parameters, tokens = granular_optimum(granularity, mixture.budget_flops)
    gap = loss - granular_dense_optimum(mixture.budget_flops)
    return Prediction(law, gap, f"at {parameters:.2g} parameters and {tokens:.2g} tokens")


def by_sparsity(mixture: Mixture) -> Prediction:
    law = "sparsity law (2501.12370)"
    reasons = everywhere(mixture)
    if mixture.shared:
        reasons.append("a shared expert, the law has none")
    if not 3e19 <= mixture.budget_flops <= 1e21:
        reasons.append(f"{mixture.budget_flops:.3g} FLOPs, fitted at 3e19 to 1e21")
    if reasons:
        return Prediction(law, None, outside(reasons))
    sparsity = 1 - mixture.active / mixture.experts
    gap = sparse_optimum(sparsity, mixture.budget_flops) - sparse_optimum(0, mixture.budget_flops)
    return Prediction(law, gap, "")


def everywhere(mixture: Mixture) -> list[str]:
    if mixture.sparse_share == 1:
        return []
    return [f"{mixture.sparse_share:.0%} of the blocks are sparse, the law has all"]


def outside(reasons: list[str]) -> str:
    return "outside its range: " + "; ".join(reasons)
