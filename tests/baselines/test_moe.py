"""Routing of the two mixtures of experts against their definitions, expert by expert."""

import math

import pytest
import torch
import torch.nn.functional as F

from baselines import PKM, DenseFFW, ExpertChoiceMoE, TopKMoE


def expert(layer, e: int, x):
    return F.gelu(x @ layer.up[e]) @ layer.down[e]


def test_expert_choice_is_its_definition() -> None:
    layer = ExpertChoiceMoE(16, experts=8, capacity_factor=2.0).double()
    x = torch.randn(64, 16, dtype=torch.float64)
    scores = layer.router(x).softmax(-1)
    expected = torch.zeros_like(x)
    for e in range(8):
        for t in scores[:, e].argsort(descending=True)[: layer.capacity(64)].tolist():
            expected[t] += layer.gain * scores[t, e] * expert(layer, e, x[t])
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("tokens", [1, 3, 127, 128, 129])
def test_expert_choice_takes_odd_token_counts(tokens: int) -> None:
    layer = ExpertChoiceMoE(8)
    assert layer(torch.randn(tokens, 8)).shape == (tokens, 8)
    assert layer.capacity(tokens) == max(1, math.ceil(tokens / 128))


def test_expert_choice_sees_later_tokens() -> None:
    """The leak that its docstring states: changing the last token changes an earlier output."""
    layer = ExpertChoiceMoE(8, experts=4).eval()
    x = torch.randn(32, 8)
    changed = x.clone()
    changed[-1] = 10 * x[0]
    assert not torch.equal(layer(x)[:-1], layer(changed)[:-1])


@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
def test_topk_moe_is_its_definition(gate: str) -> None:
    layer = TopKMoE(16, experts=8, topk=2, gate=gate).double()
    x = torch.randn(64, 16, dtype=torch.float64)
    best, ids = layer.router(x).topk(2)
    scores = layer.gain * (best.softmax(-1) if gate == "softmax" else best.sigmoid())
    expected = torch.stack(
        [sum(scores[t, j] * expert(layer, ids[t, j], x[t]) for j in range(2)) for t in range(64)]
    )
    torch.testing.assert_close(layer(x), expected)


def test_enough_capacity_drops_nothing() -> None:
    dropless = TopKMoE(16, experts=8)
    bounded = TopKMoE(16, experts=8, capacity_factor=8 / 2)
    bounded.load_state_dict(dropless.state_dict())
    x = torch.randn(40, 16)
    torch.testing.assert_close(bounded(x), dropless(x))


def test_capacity_drops_the_last_tokens_of_a_full_expert() -> None:
    layer = TopKMoE(16, experts=8, topk=1, gate="sigmoid", capacity_factor=1.0)
    x = torch.randn(1, 16).expand(32, 16)  # all tokens choose one expert, which has four slots
    y = layer(x)
    assert (y[:4] != 0).any(-1).all()
    assert (y[4:] == 0).all()


def test_balance_loss_is_one_when_even_and_rises_when_not() -> None:
    layer = TopKMoE(16, experts=8, topk=1, gate="sigmoid", balance=1.0)
    ids = torch.arange(64).remainder(8).unsqueeze(-1)
    assert layer.balance_loss(torch.zeros(64, 8), ids).item() == pytest.approx(1.0)
    skewed = torch.zeros(64, 8)
    skewed[:, 0] = 5.0
    assert layer.balance_loss(skewed, torch.zeros(64, 1, dtype=torch.long)).item() > 2
    _, loss = layer(torch.randn(8, 16), with_loss=True)
    assert loss.item() >= 0.5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TopKMoE(16, topk=1), "gate='softmax' needs topk of at least 2"),
        (lambda: TopKMoE(16, experts=4, topk=5), "topk must be at most experts=4; got 5"),
        (lambda: TopKMoE(5, topk=3), "does not divide by topk=3"),
        (lambda: TopKMoE(16, capacity_factor=0), "capacity_factor must be positive"),
        (lambda: TopKMoE(16, gate="tanh"), "gate must be one of softmax, sigmoid; got 'tanh'"),
        (lambda: ExpertChoiceMoE(16, capacity_factor=-1), "capacity_factor must lie in"),
        (lambda: DenseFFW(16, activation="tanh"), "activation must be one of gelu, relu, silu"),
        (lambda: PKM(16, memories=1000), "perfect square, got 1000; nearest are 961 and 1024"),
    ],
)
def test_bad_arguments(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
