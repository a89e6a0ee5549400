"""The fine-grained mixture term by term: routing, weights, experts, gradients, balance."""

import pytest
import torch
import torch.nn.functional as F

from baselines import FineGrainedMoE


def layer(**options) -> FineGrainedMoE:
    chosen = {"experts": 6, "topk": 2, "hidden": 4} | options
    return FineGrainedMoE(8, **chosen).double()


def swiglu(x, gate, up, down):
    return (F.silu(x @ gate) * (x @ up)) @ down


def defined(moe: FineGrainedMoE, x):
    """Token by token, expert by expert."""
    out = []
    for token in x:
        scores = torch.sigmoid(moe.router.weight @ token)
        best = sorted(range(moe.experts), key=lambda e: -(scores[e] + moe.bias[e]).item())
        total = sum(scores[e] for e in best[: moe.topk])
        shared = moe.shared
        y = swiglu(token, shared.gate.weight.T, shared.up.weight.T, shared.down.weight.T)
        for e in best[: moe.topk]:
            gate, up = moe.gate_up[e].chunk(2, dim=-1)
            y = y + moe.scale * scores[e] / total * swiglu(token, gate, up, moe.down[e])
        out.append(y)
    return torch.stack(out)


@pytest.mark.parametrize("topk", [1, 2, 6])
def test_it_is_its_definition_with_every_gradient(topk: int) -> None:
    moe = layer(topk=topk).eval()
    moe.bias.copy_(torch.linspace(0.3, -0.3, 6))
    x = torch.randn(17, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(17, 8, dtype=torch.float64)
    wanted = [x, *moe.parameters()]
    torch.testing.assert_close(moe(x), defined(moe, x))
    ours = torch.autograd.grad((moe(x) * weight).sum(), wanted, allow_unused=True)
    truth = torch.autograd.grad((defined(moe, x) * weight).sum(), wanted, allow_unused=True)
    for mine, true in zip(ours, truth, strict=True):
        torch.testing.assert_close(mine, true)


def test_the_bias_selects_and_does_not_weigh() -> None:
    moe = layer().eval()
    x = torch.randn(5, 8, dtype=torch.float64)
    moe.bias[4] = 10.0
    weights, ids = moe.routed(moe.router(x))
    assert (ids == 4).any(-1).all()
    torch.testing.assert_close(weights.sum(-1), torch.full((5,), moe.scale, dtype=torch.float64))
    scores = moe.router(x).sigmoid().gather(-1, ids)
    torch.testing.assert_close(weights / moe.scale, scores / scores.sum(-1, keepdim=True))


def test_the_bias_moves_by_the_sign_of_the_load() -> None:
    moe = layer(bias_rate=0.25)
    moe.load += torch.tensor([0, 5, 3, 3, 3, 4])  # the mean is 3
    moe.after_step()
    assert moe.bias.tolist() == [0.25, -0.25, 0, 0, 0, -0.25]
    assert not moe.load.any()


def test_load_is_what_training_calls_chose_in_all_parts_of_a_batch() -> None:
    moe = layer()
    x = torch.randn(30, 8, dtype=torch.float64)
    for part in x.split(7):
        moe(part)
    assert torch.equal(moe.load, torch.bincount(moe.selected(x).flatten(), minlength=6))


def test_training_evens_the_load_and_evaluation_keeps_the_bias() -> None:
    moe = layer(bias_rate=0.02)
    moe.router.weight.data[0] += 2.0  # tokens of positive mean all prefer expert 0
    x = torch.randn(512, 8, dtype=torch.float64) + 0.5

    def largest_share() -> float:
        return torch.bincount(moe.selected(x).flatten(), minlength=6).max().item() / 1024

    before = largest_share()
    for _ in range(100):
        moe(x)
        moe.after_step()
    assert before > 0.45
    assert largest_share() < 0.25
    kept = moe.bias.clone()
    moe.eval()(x)
    moe.after_step()
    assert torch.equal(moe.bias, kept)
    assert {"bias", "load"} <= set(moe.state_dict())


def test_the_default_width_costs_what_dense_costs() -> None:
    moe = FineGrainedMoE(512)
    assert sum(moe.flops(1).values()) == pytest.approx(16 * 512**2, rel=0.03)
    assert moe.flops(3) == {
        "router": 3 * 2 * 512 * 128,
        "shared": 3 * 6 * 512 * moe.hidden,
        "experts": 3 * 8 * 6 * 512 * moe.hidden,
    }


def test_half_of_the_variance_is_the_shared_experts() -> None:
    moe = FineGrainedMoE(128, hidden=64)
    x = torch.randn(2048, 128)
    shared = moe.shared(x)
    routed = moe(x) - shared
    assert shared.var().item() == pytest.approx(0.2126, rel=0.1)
    assert routed.var().item() == pytest.approx(0.2126, rel=0.1)


def test_tokens_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the last axis must be dim=8; got \(2, 16\)"):
        layer()(torch.randn(2, 16, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topk": 7}, "topk must be at most experts=6; got 7"),
        ({"bias_rate": -1.0}, "bias_rate must be 0 .no balancing. or positive; got -1.0"),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer(**options)
