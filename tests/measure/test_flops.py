"""Three counts agree on every layer, and each way of miscounting is an error."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from suites.errors import UserError
from suites.language_model.case import Backbone
from suites.language_model.decoder import Decoder
from suites.layers import LAYERS, build, resolve_options
from suites.measure import flops, operators
from suites.measure.activations import saved_bytes
from suites.measure.flops import count
from suites.measure.meta import on_meta

DIM, TOKENS = 96, 384
SMALL = {
    "peer": {"experts": 33**2},
    "pkm": {"memories": 33**2},
    "sparsely_gated_linear": {"experts": 9**2},
    "memory_plus": {"memories": 33**2},
    "ultramem_v2": {"experts": 33**2},
}
IMPLEMENTATIONS = ("reference", "aten", "native", "triton")
EXTRA = {
    "dense": [{"activation": "relu"}],
    "topk_moe": [{"capacity_factor": 1.25}, {"gate": "sigmoid", "topk": 1}],
    "expert_choice": [{"capacity_factor": 2.0, "experts": 7}],
    "ultramem_v2": [{"rank": 3, "dim_in": 8, "dim_out": 33, "hidden": 100}],
    "memory_plus": [{"dim_value": 40, "query_norm": "layer"}],
    "sparsely_gated_linear": [
        {"activation": "gelu", "shared_query": False, "shared_pool": True, "scores": "softmax"},
    ],
    "fine_grained_moe": [{"experts": 24, "topk": 3, "hidden": 40}],
    "pkm": [{"shared_keys": True}],
    "peer": [
        {"glu": True},
        {"query_norm": "layer", "scores": "sigmoid"},
        {"query_norm": None, "scores": "relu", "shared_keys": False, "activation": "silu"},
    ],
}
VARIANTS = [
    (name, SMALL.get(name, {}) | options | ({"impl": impl} if impl else {}))
    for name in LAYERS
    for options in [{}, *EXTRA.get(name, [])]
    for impl in (IMPLEMENTATIONS if "impl" in resolve_options(name, {}) else (None,))
]


def on_tokens(name: str, options: dict, tokens: int = TOKENS):
    if options.get("impl") == "triton":
        pytest.importorskip("triton")
    return on_meta(build, name, DIM, options), torch.empty(tokens, DIM, device="meta")


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_counters_agree_with_the_closed_form(name: str, options: dict) -> None:
    layer, x = on_tokens(name, options)
    counted = count(layer, x)
    assert set(counted.unexplained().values()) == {0}
    assert counted.counted["torch forward"] == sum(layer.flops(TOKENS).values())
    if options.get("impl") in (None, "reference"):
        assert counted.listed == []
        if name != "ultramem_v2":  # whose filter has no backward
            assert counted.counted["torch backward"] == 2 * counted.counted["torch forward"]


@pytest.mark.parametrize("name", LAYERS)
def test_decoder(name: str) -> None:
    backbone = Backbone(blocks=3, dim=DIM, attention_heads=4, context=64)
    decoder = on_meta(Decoder, backbone, 500, name, SMALL.get(name, {}), (1,))
    counted = count(decoder, torch.zeros(4, 64, dtype=torch.long, device="meta"))
    assert set(counted.unexplained().values()) == {0}
    assert {d.part for d in counted.listed} - {"sub_keys"} == {"embedding", "softmax"}


@pytest.mark.parametrize("name", LAYERS)
def test_closed_forms_have_the_same_parts(name: str) -> None:
    layer, _ = on_tokens(name, SMALL.get(name, {}))
    parts = list(layer.flops(TOKENS))
    for form in (layer.backward_flops, layer.bytes_moved, layer.activation_bytes):
        assert list(form(TOKENS)) == parts
    assert list(layer.parameter_parts()) == list(layer.active_parameter_parts()) == parts
    assert sum(layer.parameter_parts().values()) == sum(p.numel() for p in layer.parameters())
    assert layer.active_parameters() == sum(layer.active_parameter_parts().values())


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_autograd_keeps_no_less_than_the_closed_form(name: str, options: dict) -> None:
    layer, x = on_tokens(name, options)
    floor = sum(layer.activation_bytes(TOKENS).values())
    assert saved_bytes(layer, x) >= floor
    if options.get("impl") == "aten":
        assert saved_bytes(layer, x) <= 3 * floor


@pytest.mark.parametrize(
    "name", ["peer", "pkm", "topk_moe", "fine_grained_moe", "sparsely_gated_linear", "memory_plus"]
)
def test_bytes_of_the_ids_really_selected(name: str) -> None:
    layer = build(name, DIM, SMALL.get(name, {}))
    x = torch.randn(TOKENS, DIM)
    ids = layer.selected(x)
    uniform = sum(layer.bytes_moved(TOKENS).values())
    all_same = sum(layer.bytes_moved(TOKENS, ids[:1].expand_as(ids)).values())
    assert all_same < sum(layer.bytes_moved(TOKENS, ids).values()) <= 1.02 * uniform
    distinct = len(set(ids[:1].flatten().tolist()))
    matrices = {"topk_moe": 2, "fine_grained_moe": 3}.get(name)
    row = matrices * DIM * layer.hidden if matrices else DIM * len(layer.tables())
    more = ids.unique().numel() - distinct
    assert sum(layer.bytes_moved(TOKENS, ids).values()) - all_same == more * row * 4


def test_expected_distinct_experts_of_uniform_routing() -> None:
    router = build("peer", 8, {"experts": 64, "heads": 3, "topk": 4}).router
    draws = torch.rand(2000, 5 * 3, 64).topk(4).indices.flatten(1)
    mean = sum(len(row.unique()) for row in draws) / len(draws)
    assert router.distinct(5) == pytest.approx(mean, abs=1)


def test_a_million_experts() -> None:
    layer = on_meta(build, "peer", 1024, {"impl": "aten"})
    counted = count(layer, torch.empty(8, 1024, device="meta"))
    assert counted.counted["torch forward"] == 8 * (2_097_152 + 2_097_152 + 524_288)


@pytest.mark.parametrize(
    ("name", "options", "operator"),
    [
        ("peer", {"impl": "aten"}, "peer::experts"),
        ("peer", {"impl": "aten"}, "peer::retrieve"),
        ("peer", {"impl": "aten"}, "peer::experts_backward"),
        ("pkm", {"impl": "aten"}, "peer::bag"),
        ("topk_moe", {}, "aten::_grouped_mm"),
    ],
)
def test_a_removed_formula_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str, options: dict, operator: str
) -> None:
    layer, x = on_tokens(name, SMALL.get(name, {}) | options)
    monkeypatch.delitem(operators.FORMULAS, operator)
    with pytest.raises(UserError, match=rf"nothing counts: .*{operator}"):
        count(layer, x)
    if "backward" not in operator:
        with pytest.raises(UserError, match=rf"fvcore has no handle for .*{operator}"):
            flops.traced(layer, x)


def test_a_wrong_closed_form_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = on_tokens("dense", {})
    monkeypatch.setattr(layer, "backward_flops", lambda tokens: {"ffw": 1})
    with pytest.raises(UserError, match=r"counts differ from the closed form: torch backward \+"):
        count(layer, x)


class Dot(nn.Module):
    """Its dot product is two elementwise operators, which no counter sees."""

    def forward(self, x):
        return (x * x.flip(0)).sum(-1)


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(DIM, 4), nn.Linear(DIM, 4)

    def forward(self, x):
        return self.used(x)


def test_a_dot_product_in_disguise_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(operators.FREE, "the test's", "flip")
    with pytest.raises(UserError, match=r"\(a \* b\)\.sum, a dot product; write it as einsum"):
        flops.dispatched(Dot(), torch.empty(TOKENS, DIM, device="meta"))


def test_a_module_never_called_is_an_error() -> None:
    with pytest.raises(UserError, match="modules of Unused were never called: unused"):
        flops.traced(on_meta(Unused), torch.empty(TOKENS, DIM, device="meta"))


def test_modules_that_cannot_be_counted() -> None:
    layer, x = on_tokens("dense", {})
    with pytest.raises(UserError, match="Unused has no closed form flops, backward_flops"):
        count(on_meta(Unused), x)
    handle = layer.up.register_forward_hook(lambda *_: None)
    with pytest.raises(UserError, match=r"DenseFFW\.up has hooks"):
        count(layer, x)
    handle.remove()
    count(layer, x)
    layer.up = torch.compile(layer.up)
    with pytest.raises(UserError, match=r"DenseFFW\.up is compiled"):
        count(layer, x)
    compiled, x = on_tokens("peer", SMALL["peer"] | {"impl": "compiled"})
    with pytest.raises(UserError, match="PEER is compiled"):
        count(compiled, x)


def test_a_strangers_layer_is_counted_without_ours() -> None:
    """The table of formulas named operators that only `baselines` registers."""
    program = (
        "import sys, torch\n"
        "from torch import nn\n"
        "from suites.measure.flops import dispatched, traced\n"
        "layer, x = nn.Linear(8, 4, device='meta'), torch.empty(16, 8, device='meta')\n"
        "assert traced(layer, x) == 1024 and dispatched(layer, x) == (1024, 2048)\n"
        "assert 'baselines' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
