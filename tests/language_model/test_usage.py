"""Expert usage and unevenness against the paper's definition, spelled out; and what they cost."""

import math
import time

import pytest
import torch

from suites.language_model.case import Backbone
from suites.language_model.decoder import Decoder
from suites.language_model.usage import Usage, points, usage, usage_on

BACKBONE = Backbone(blocks=2, dim=16, attention_heads=2, context=16)
OPTIONS = {
    "peer": {"experts": 64, "heads": 2, "topk": 4, "dim_key": 8},
    "pkm": {"memories": 64, "heads": 2, "topk": 4, "dim_key": 8},
    "dense": {},
}


def decoder(layer: str, **options) -> Decoder:
    return Decoder(BACKBONE, 256, layer, OPTIONS[layer] | options, (1,))


@pytest.mark.parametrize(
    ("sums", "percent", "unevenness"),
    [
        ([1.0, 1.0, 1.0, 1.0], 100, 0.0),
        ([4.0, 0.0, 0.0, 0.0], 25, math.log(4)),
        ([1.0, 1.0, 0.0, 0.0], 50, math.log(2)),
        ([3.0, 1.0, 0.0, 0.0], 50, math.log(4) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)),
        ([0.0, 0.0, 0.0, 0.0], 0, math.log(4)),
    ],
)
def test_of_hand_made_routing(sums: list[float], percent: float, unevenness: float) -> None:
    found = usage(torch.tensor(sums, dtype=torch.float64))
    assert found["expert_usage_percent"] == percent
    assert found["unevenness_nats"] == pytest.approx(unevenness, abs=1e-12)


@pytest.mark.parametrize("layer", ["peer", "pkm"])
@pytest.mark.parametrize("scores", ["softmax", "relu"])
@torch.no_grad()
def test_sums_are_those_of_the_router(layer: str, scores: str) -> None:
    """z' by a loop over tokens, heads and experts, for the tokens that the layer really meets."""
    model = decoder(layer, scores=scores).eval()
    router = model.layers()[1].router
    met = []
    hook = router.register_forward_pre_hook(lambda _, given: met.append(given[0]))
    counted = Usage(model)
    tokens = torch.randint(0, 256, (2, 16))
    with counted.counted():
        model(tokens)
        model(tokens[:1])
    model(tokens)  # outside the block: not counted
    hook.remove()
    expected = [0.0] * router.experts
    for x in met[:2]:
        scores_THK, ids_THK = router(x)
        for score, expert in zip(scores_THK.flatten(), ids_THK.flatten(), strict=True):
            expected[int(expert)] += float(score)
    (sums,) = counted.sums.values()
    torch.testing.assert_close(sums, torch.tensor(expected, dtype=torch.float64))
    if scores == "softmax":
        assert float(sums.sum()) == pytest.approx(48 * 2)  # per token and head they add up to 1
    z = sums / sums.sum()
    assert counted.metrics()["unevenness_nats"] == pytest.approx(
        math.log(64) + sum(float(p) * math.log(p) for p in z if p > 0)
    )


def test_several_sparse_layers_are_averaged() -> None:
    model = Decoder(BACKBONE, 256, "peer", OPTIONS["peer"], (0, 1)).eval()
    counted = Usage(model)
    with counted.counted():
        model(torch.randint(0, 256, (1, 16)))
    each = [usage(sums) for sums in counted.sums.values()]
    assert len(each) == 2
    for name, value in counted.metrics().items():
        assert value == pytest.approx((each[0][name] + each[1][name]) / 2)


def test_a_look_leaves_the_model_as_it_was() -> None:
    model = decoder("peer").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert usage_on(model, torch.randint(0, 256, (2, 16)))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert usage_on(decoder("dense"), torch.randint(0, 256, (2, 16))) == {}


def test_looks_are_at_the_start_and_by_halves() -> None:
    assert sorted(points(640)) == [0, 10, 20, 40, 80, 160, 320, 640]
    assert points(1) == {0, 1}


def test_counting_costs_little() -> None:
    model = Decoder(
        Backbone(blocks=4, dim=64, attention_heads=4, context=128),
        256,
        "peer",
        {"experts": 64**2, "dim_key": 32},
        (2,),
    ).eval()
    tokens = torch.randint(0, 256, (8, 128))
    counted = Usage(model)
    spent = {False: [], True: []}
    with torch.no_grad():
        for _ in range(4):
            for counting in spent:
                start = time.perf_counter()
                if counting:
                    with counted.counted():
                        model(tokens)
                else:
                    model(tokens)
                spent[counting].append(time.perf_counter() - start)
    assert min(spent[True]) < 1.5 * min(spent[False])  # about 1.03 on a quiet machine
