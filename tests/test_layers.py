"""The contract of every registered layer, found through the registry."""

import copy
import inspect
import io

import pytest
import torch
from torch.export import Dim, export
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from suites.errors import UserError
from suites.language_model.case import Backbone
from suites.language_model.decoder import Decoder
from suites.layers import LAYERS, build, output_and_loss, resolve_options

SMALL = {
    "pkm": {"memories": 64**2, "dim_key": 32},
    "peer": {"experts": 64**2, "dim_key": 32},
    "topk_moe": {"experts": 16},
    "expert_choice": {"experts": 16},
    "fine_grained_moe": {"experts": 16},
    "sparsely_gated_linear": {"experts": 16**2, "dim_key": 32},
    "memory_plus": {"memories": 64**2},
    "ultramem_v2": {"experts": 32**2},
}
VARIANTS = [(name, {}) for name in LAYERS] + [
    ("topk_moe", {"gate": "sigmoid", "topk": 1}),
    ("topk_moe", {"capacity_factor": 1.25}),
    ("expert_choice", {"capacity_factor": 2.0}),
    ("pkm", {"shared_keys": True}),
    ("pkm", {"query_norm": None}),
    ("peer", {"shared_keys": False}),
    ("peer", {"query_norm": "layer"}),
    ("peer", {"query_norm": None, "scores": "sigmoid"}),
    ("peer", {"glu": True}),
    ("sparsely_gated_linear", {"activation": "gelu", "scores": "softmax"}),
    ("sparsely_gated_linear", {"shared_pool": True, "experts": 64**2}),
    ("sparsely_gated_linear", {"shared_query": False, "query_norm": "batch"}),
]
each = pytest.mark.parametrize(("name", "options"), VARIANTS)


def small(name: str, dim: int, options: dict):
    return build(name, dim, SMALL.get(name, {}) | options)


@each
def test_shape_and_gradients(name: str, options: dict) -> None:
    layer = small(name, 32, options)
    x = torch.randn(4, 64, 32, requires_grad=True)
    y = layer(x)
    assert y.shape == x.shape
    (y * torch.randn_like(y)).sum().backward()
    for parameter, value in [("x", x), *layer.named_parameters()]:
        assert value.grad is not None, parameter
        assert value.grad.abs().sum() > 0, parameter


@each
@pytest.mark.parametrize("dim", [32, 96, 256])
def test_output_variance_at_init_is_the_dense_layers(name: str, options: dict, dim: int) -> None:
    """E[σ(z)²] for GELU is 0.425; gated layers multiply it by E[z²] = 1."""
    variances = [small(name, dim, options)(torch.randn(2048, dim)).var().item() for _ in range(3)]
    assert sum(variances) / 3 == pytest.approx(0.425, rel=0.15)


@each
def test_float64_and_eval_mode(name: str, options: dict) -> None:
    layer = small(name, 32, options).double().eval()
    y = layer(torch.randn(96, 32, dtype=torch.float64))
    assert y.dtype == torch.float64
    assert y.isfinite().all()


@each
def test_closed_forms_need_no_memory(name: str, options: dict) -> None:
    with torch.device("meta"):
        layer = small(name, 32, options)
    assert sum(layer.flops(1024).values()) > 0
    assert 0 < layer.active_parameters() <= sum(p.numel() for p in layer.parameters())


def test_a_million_experts_on_meta() -> None:
    with torch.device("meta"):
        layer = build("peer", 1024, {})
    assert sum(p.numel() for p in layer.tables()) == 2 * 1024**2 * 1024
    # Paper, section 2.3: 2·d·h·d_k + 2·h·√N·d_k + 4·h·k·d.
    assert layer.flops(1) == {
        "query": 2_097_152,
        "sub_keys": 2_097_152,
        "merge": 0,
        "experts": 524_288,
    }


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(UserError, match=r"unknown layer 'mamba'; registered are dense, "):
        build("mamba", 32, {})
    with pytest.raises(UserError, match=r"peer has no option expert; it has experts, heads"):
        build("peer", 32, {"expert": 16})


def test_resolved_options_hold_every_default() -> None:
    assert resolve_options("peer", {})["experts"] == 1024**2
    assert resolve_options("peer", {"heads": 2}) == resolve_options("peer", {}) | {"heads": 2}


def trained(layer, x):
    """Output and loss of a training call, with gradients behind it."""
    y, loss = output_and_loss(layer.train(), x)
    (y.square().sum() + loss).backward()
    return y.detach(), torch.as_tensor(loss).detach()


@each
@pytest.mark.parametrize("shape", [(0, 32), (2, 0, 32)])
def test_a_call_without_tokens_reaches_every_parameter(name: str, options: dict, shape) -> None:
    layer, x = small(name, 32, options), torch.empty(shape, requires_grad=True)
    buffers = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    y, loss = trained(layer, x)
    assert y.shape == x.grad.shape == shape
    assert loss == 0
    for parameter in layer.parameters():
        assert torch.equal(parameter.grad, torch.zeros_like(parameter))
    for buffer_name, buffer in layer.named_buffers():
        assert torch.equal(buffer, buffers[buffer_name])


@each
@pytest.mark.parametrize("when", ["called", "trained"])
def test_a_layer_that_was_used_can_be_copied(name: str, options: dict, when: str) -> None:
    layer, x = small(name, 32, options), torch.randn(24, 32)
    if when == "trained":
        trained(layer, x)
    else:
        layer(x)
    averaged, copied = AveragedModel(layer), copy.deepcopy(layer)
    torch.save(layer, io.BytesIO())
    layer.eval()
    for other in (averaged.module, copied):
        assert torch.equal(other.eval()(x), layer(x))


@each
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_changes_no_gradient(name: str, options: dict, reentrant: bool) -> None:
    layer, x = small(name, 32, options), torch.randn(24, 32, requires_grad=True)
    plain = copy.deepcopy(layer)
    trained(plain, x)
    expected, x.grad = x.grad, None

    def call(x):
        return output_and_loss(layer, x)

    y, loss = checkpoint(call, x, use_reentrant=reentrant)
    (y.square().sum() + loss).backward()
    torch.testing.assert_close(x.grad, expected)
    for parameter, other in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad)


def test_a_decoder_sums_the_losses_that_its_layers_ask_for() -> None:
    backbone = Backbone(blocks=3, dim=32, attention_heads=2, context=8)
    decoder = Decoder(backbone, 32, "topk_moe", SMALL["topk_moe"], (0, 2))
    tokens = torch.randint(0, 32, (2, 8))
    logits, loss = decoder(tokens, with_loss=True)
    assert torch.equal(logits, decoder(tokens))
    found = []
    for block in (decoder.blocks[0], decoder.blocks[2]):
        block.ffw.register_forward_hook(lambda _, __, given: found.append(given[1]))
    decoder(tokens, with_loss=True)
    assert loss.item() == sum(found).item() > 0
    copy.deepcopy(decoder)


@pytest.mark.parametrize("assign", [False, True])
def test_a_decoder_made_without_memory_is_all_in_its_state(assign: bool) -> None:
    def make():
        return Decoder(
            Backbone(blocks=2, dim=32, attention_heads=2, context=8), 32, "dense", {}, ()
        )

    whole, tokens = make().eval(), torch.randint(0, 32, (2, 8))
    with torch.device("meta"):
        hollow = make().eval()
    if not assign:
        hollow.to_empty(device="cpu")
        for value in hollow.state_dict().values():
            value.fill_(float("nan"))
    hollow.load_state_dict(whole.state_dict(), assign=assign)
    assert torch.equal(hollow(tokens), whole(tokens))


def sizes_of(name: str) -> list[str]:
    """Its dim and every option that is a whole number."""
    parameters = inspect.signature(LAYERS[name]).parameters.values()
    return [p.name for p in parameters if p.annotation in (int, int | None)]


SIZES = [(name, size) for name in LAYERS for size in sizes_of(name)]


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_a_size_is_a_whole_number_from_1(name: str, size: str) -> None:
    """Torch's own words were "'<' not supported between instances of 'str' and 'int'"; True was a width."""
    for bad in (1.5, "4", True, [4]):
        with pytest.raises(TypeError, match=f"{size} must be a whole number of at least 1; got "):
            LAYERS[name](**({"dim": 16} | SMALL.get(name, {}) | {size: bad}))
    for bad in (0, -1, 10**30):
        with pytest.raises(
            ValueError, match=f"{size} must be at least 1 and fit 64 bits; got {bad}"
        ):
            LAYERS[name](**({"dim": 16} | SMALL.get(name, {}) | {size: bad}))


@pytest.mark.parametrize("name", LAYERS)
def test_an_exported_layer_takes_any_number_of_tokens(name: str) -> None:
    """`impl="auto"` looked the number of pairs up, which is a symbol here."""
    layer = build(name, 16, SMALL.get(name, {})).eval()
    with torch.no_grad():
        shapes = ({0: Dim.AUTO, 1: Dim.AUTO},)
        exported = export(layer, (torch.randn(3, 8, 16),), dynamic_shapes=shapes, strict=False)
        # A capacity of 1 is a shape of its own to the compiler.
        for size in [(5, 9)] if name == "expert_choice" else [(5, 9), (2, 5)]:
            x = torch.randn(*size, 16)
            torch.testing.assert_close(exported.module()(x), layer(x))


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_compiles_into_one_graph(name: str) -> None:
    """`impl="auto"` looked up what is installed, at which the compiler stopped."""
    layer = build(name, 16, SMALL.get(name, {}))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for tokens in (24, 40):
        x = torch.randn(tokens, 16)
        torch.testing.assert_close(compiled(x), layer(x))
