"""UltraMemV2: scores, filter, pairs and gradients against their equations; how far it is from exact."""

import pytest
import torch
import torch.nn.functional as F

from baselines import UltraMemV2
from baselines.ultramem import leading
from tests.baselines.definition import check_definition

SMALL = {"experts": 6**2, "topk": 3, "dim_key": 4, "dim_in": 3, "dim_out": 5, "hidden": 7}


def layer(impl: str = "reference", **options) -> UltraMemV2:
    own = UltraMemV2(8, **SMALL | options, impl=impl).double()
    own.core.data += 0.3 * torch.randn_like(own.core)
    own.after_step()
    return own


def normed(x, weight):
    return x / (x.square().mean() + torch.finfo(torch.float64).eps).sqrt() * weight


def grid(own: UltraMemV2, token):
    """Every score (S, S) of a token, and the sub-key scores of both sides."""
    query = own.query(token).view(2, own.rank, own.dim_key)
    sides = [
        torch.stack(
            [
                torch.stack(
                    [
                        normed(query[side, r], own.query_norm.weight)
                        @ normed(own.keys[side, r, s], own.key_norm.weight)
                        for s in range(own.sub_keys)
                    ]
                )
                for r in range(own.rank)
            ]
        )
        for side in range(2)
    ]
    return sides[0].T @ own.core @ sides[1], sides


def defined(own: UltraMemV2, x):
    out = []
    for token in x:
        scores, (rows, columns) = grid(own, token)
        kept_rows = (own.row_filter @ rows).topk(own.topk).indices.tolist()
        kept_columns = (own.column_filter @ columns).topk(own.topk).indices.tolist()
        pairs = [(a, b) for a in kept_rows for b in kept_columns]
        best = sorted(pairs, key=lambda pair: -scores[pair].item())[: own.topk]
        y = torch.zeros(own.dim_out, dtype=torch.float64)
        for a, b in best:
            i = a * own.sub_keys + b
            y = y + scores[a, b] * (own.down[i] @ (own.into.weight @ token)) * own.up[i]
        hidden = F.gelu(own.ffw.up.weight @ token)
        out.append(own.ffw.down.weight @ hidden + own.out.weight @ y)
    return torch.stack(out)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_it_is_its_definition_with_every_gradient(rank: int) -> None:
    own = layer(rank=rank)
    check_definition(own, defined, tokens=7, dim=8)


def found_of_exact(own: UltraMemV2, tokens: int) -> float:
    """The share of the exact K best pairs that the filter finds."""
    x = torch.randn(tokens, 8, dtype=torch.float64)
    exact = [set(grid(own, token)[0].flatten().topk(own.topk).indices.tolist()) for token in x]
    ours = [set(row) for row in own.selected(x).tolist()]
    return sum(len(a & b) for a, b in zip(exact, ours, strict=True)) / (tokens * own.topk)


def test_the_selection_is_near_the_best_and_not_exact() -> None:
    assert 0.3 < found_of_exact(layer(), 40) < 1.0


def test_the_filter_is_the_leading_pair_of_singular_vectors() -> None:
    row, column = torch.tensor([0.6, 0.8]).double(), torch.tensor([0.8, 0.6]).double()
    core = 3 * torch.outer(row, column)
    for found, expected in zip(leading(core), (row, column), strict=True):
        torch.testing.assert_close(found, expected)
    own = layer()
    before = own.row_filter.clone()
    own.core.data = core
    assert torch.equal(own.row_filter, before)
    own.after_step()
    torch.testing.assert_close(own.row_filter, row)
    assert {"row_filter", "column_filter"} <= set(own.state_dict())


def test_the_mean_top_score_at_initialisation_is_one() -> None:
    own = UltraMemV2(64, experts=32**2)
    scores, _ = own.retrieve(torch.randn(1024, 64))
    assert scores.mean().item() == pytest.approx(1.0, rel=0.1)


def test_half_of_the_variance_is_the_memorys() -> None:
    own = UltraMemV2(96, experts=32**2)
    x = torch.randn(2048, 96)
    ffw = own.ffw(x)
    assert ffw.var().item() == pytest.approx(0.2126, rel=0.1)
    assert (own(x) - ffw).var().item() == pytest.approx(0.2126, rel=0.2)


def test_the_published_closed_forms() -> None:
    """Beside the feed-forward 4rd·Dk + 4rn·Dk + 2rm² + 2d·Dp + 2m(Dp + Dv) + 2d·Dv FLOPs, and what the
    paper leaves out: the filter 4rn and C itself 2r²m.
    """
    with torch.device("meta"):
        own = UltraMemV2(512, experts=558**2)
    d, r, n, m, Dk, Dp, Dv = 512, 2, 558, 24, 256, 128, 384
    memory = 4 * r * d * Dk + 4 * r * n * Dk + 2 * r * m * m
    memory += 2 * d * Dp + 2 * m * (Dp + Dv) + 2 * d * Dv
    parts = own.flops(1)
    assert sum(parts.values()) - parts["ffw"] == memory + 4 * r * n + 2 * r * r * m
    parts = own.parameter_parts()
    parameters = n * n * (Dp + Dv) + (2 * r * d + 2 * r * n) * Dk + d * (Dp + Dv)
    assert sum(parts.values()) - parts["ffw"] == parameters + r * r + 2 * Dk


def test_tokens_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the last axis must be dim=8; got \(2, 16\)"):
        layer()(torch.randn(2, 16, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"experts": 35}, "perfect square, got 35"),
        ({"topk": 7}, "topk must be at most √experts = 6; got 7"),
        ({"rank": 0}, "rank must be at least 1 and fit 64 bits; got 0"),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UltraMemV2(8, **SMALL | options)
