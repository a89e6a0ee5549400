"""What other tokens change in predictions: nothing where the model is causal, something where it leaks."""

import pytest
import torch

from suites.language_model.case import Backbone
from suites.language_model.causality import divergence, leaks
from suites.language_model.decoder import Decoder

BACKBONE = Backbone(blocks=2, dim=16, attention_heads=2, context=16)
PEER = {"experts": 64, "heads": 2, "topk": 4, "dim_key": 8}


def measured(layer: str, options: dict) -> dict[str, float]:
    model = Decoder(BACKBONE, 256, layer, options, (1,))
    return leaks(model, torch.randint(0, 256, (8, 16)))


def leaking(found: dict[str, float]) -> set[str]:
    return {name.removesuffix("_leak_nats") for name, leak in found.items() if leak > 0} - {
        "leak_tokens"
    }


@pytest.mark.parametrize(
    ("layer", "options", "expected"),
    [
        ("dense", {}, set()),
        ("peer", PEER, {"training_future", "training_batch"}),
        ("peer", PEER | {"query_norm": "layer"}, set()),
        ("peer", PEER | {"query_norm": None}, set()),
        (
            "expert_choice",
            {"experts": 16},
            {"training_future", "training_batch", "evaluation_future", "evaluation_batch"},
        ),
    ],
    ids=["dense", "peer", "peer, layer norm", "peer, no norm", "expert choice"],
)
def test_exactly_nothing_moves_where_nothing_leaks(
    layer: str, options: dict, expected: set[str]
) -> None:
    found = measured(layer, options)
    assert found["leak_tokens"] == 128
    assert leaking(found) == expected
    assert all(value >= 0 for value in found.values())


def test_divergence_is_kullback_and_leiblers() -> None:
    p, q = (torch.randn(2, 3, 5, dtype=torch.float64).softmax(-1) for _ in range(2))
    expected = float((p * (p / q).log()).sum(-1).mean())
    assert divergence(p.log(), q.log()) == pytest.approx(expected)


def test_the_model_is_left_as_it_was() -> None:
    model = Decoder(BACKBONE, 256, "peer", PEER, (1,)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    leaks(model, torch.randint(0, 256, (8, 16)))
    assert not model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
