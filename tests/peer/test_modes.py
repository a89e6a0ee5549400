"""Torch's other modes: what a layer gives there is right, or it raises; it is never silently wrong."""

import pytest
import torch
from torch.autograd import forward_ad

from baselines import PKM, TopKMoE
from peer import PEER, functional

SIZES = {"heads": 2, "topk": 4, "dim_key": 8, "query_norm": "layer"}
LAYERS = {
    "peer": lambda impl: PEER(8, experts=64, impl=impl, **SIZES),
    "peer glu": lambda impl: PEER(8, experts=64, impl=impl, glu=True, **SIZES),
    "peer sparse": lambda impl: PEER(8, experts=64, impl=impl, table_grad="sparse", **SIZES),
    "pkm": lambda impl: PKM(8, memories=64, impl=impl, **SIZES),
}


def made(name: str, impl: str):
    torch.manual_seed(0)
    return LAYERS[name](impl).double().eval()


def tokens(seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 8, dtype=torch.float64, generator=generator)


def squared(layer):
    return lambda x: layer(x).square().sum()


def dual(layer):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(layer(forward_ad.make_dual(tokens(), tokens(2)))).tangent


def dual_without_grad(layer):
    with torch.no_grad():
        return dual(layer)


def dual_of_a_table(layer):
    """The tangent sits in a parameter, and the tokens have none."""
    name = "down" if isinstance(layer, PEER) else "values"
    table = layer.get_parameter(name).detach()

    def call(value):
        return torch.func.functional_call(layer, {name: value}, (tokens(),))

    with torch.no_grad():
        return torch.func.jvp(call, (table,), (table.sin(),))[1]


def double_backward(layer):
    x = tokens().requires_grad_()
    (first,) = torch.autograd.grad(squared(layer)(x), x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), x)[0]


def double_backward_of_parameters(layer):
    router = layer.router.sub_keys
    (first,) = torch.autograd.grad(squared(layer)(tokens()), router, create_graph=True)
    return torch.autograd.grad(first.square().sum(), router)[0]


def batched_gradients(layer):
    x = tokens().requires_grad_()
    y = layer(x)
    directions = torch.stack([torch.ones_like(y), y.detach()])
    return torch.autograd.grad(y, x, directions, is_grads_batched=True)[0]


def of_each_token(layer):
    def loss(parameters, x):
        return torch.func.functional_call(layer, parameters, (x[None],)).square().sum()

    parameters = dict(layer.named_parameters())
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, tokens())
    return each["router.query.weight"]


def inferred(layer):
    with torch.inference_mode():
        return layer(tokens()).clone()


MODES = {
    "jvp": lambda layer: torch.func.jvp(layer, (tokens(),), (tokens(2),))[1],
    "jacfwd": lambda layer: torch.func.jacfwd(layer)(tokens()[:1]),
    "linearize": lambda layer: torch.func.linearize(layer, tokens())[1](tokens(2)),
    "dual": dual,
    "dual without grad": dual_without_grad,
    "dual of a table": dual_of_a_table,
    "jacrev": lambda layer: torch.func.jacrev(layer)(tokens()[:1]),
    "hessian": lambda layer: torch.func.hessian(squared(layer))(tokens()[:1]),
    "func.grad": lambda layer: torch.func.grad(squared(layer))(tokens()),
    "gradients of each token": of_each_token,
    "double backward": double_backward,
    "double backward of parameters": double_backward_of_parameters,
    "batched gradients": batched_gradients,
    "vmap": lambda layer: torch.func.vmap(layer)(torch.stack([tokens(), tokens(2)])),
    "inference": inferred,
    "traced": lambda layer: torch.jit.trace(layer, (tokens(),), check_trace=False)(tokens(2)[:3]),
}
RAISES = NotImplementedError, RuntimeError


@pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning"
)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LAYERS)
def test_right_or_refused(name: str, mode: str) -> None:
    oracle = "peer" if name == "peer sparse" else name
    wanted = MODES[mode](made(oracle, "reference"))
    try:
        got = MODES[mode](made(name, "aten"))
    except RAISES:
        assert mode not in ("vmap", "inference", "traced")
        return
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("mode", ["jvp", "dual without grad", "dual of a table"])
def test_forward_mode_says_what_to_take(mode: str) -> None:
    with pytest.raises(NotImplementedError, match=r"impl='aten' has no forward-mode .*'reference'"):
        MODES[mode](made("peer", "aten"))


@pytest.mark.parametrize("mode", ["jvp", "dual without grad"])
def test_forward_mode_of_the_reference_is_a_difference(mode: str) -> None:
    layer, step = made("peer", "reference"), 1e-6
    ahead, behind = (layer(tokens() + sign * step * tokens(2)) for sign in (1, -1))
    torch.testing.assert_close(
        MODES[mode](layer), (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("widths", [(8, 8), (6, 5)])
def test_forward_mode_of_the_top_k_mixture_is_refused(widths: tuple[int, int]) -> None:
    layer = TopKMoE(widths[0], experts=4, hidden=widths[1]).eval()
    x = torch.randn(6, widths[0])
    with torch.no_grad(), pytest.raises(NotImplementedError, match="forward"):
        torch.func.jvp(layer, (x,), (x,))


@pytest.fixture
def compiled_runs(monkeypatch: pytest.MonkeyPatch):
    """A list that grows with every run of a compiled graph, whose code generation is left out."""
    runs: list[int] = []

    def backend(graph, example_inputs):
        def run(*inputs):
            runs.append(1)
            return graph(*inputs)

        return run

    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **given: compiler(f, backend=backend, **given))
    functional.compiled_kind.cache_clear()
    torch._dynamo.reset()
    yield runs
    functional.compiled_kind.cache_clear()
    torch._dynamo.reset()


def test_every_variant_of_an_ablation_runs_compiled(compiled_runs: list[int]) -> None:
    """The compiler's own limit is eight variants of one code, after which it runs plain Python."""
    for activation in ("gelu", "relu", "silu"):
        for glu in (False, True):
            for training in (True, False):
                layer = PEER(
                    8, experts=64, activation=activation, glu=glu, impl="compiled", **SIZES
                )
                for count in (6, 7):
                    before = len(compiled_runs)
                    with torch.set_grad_enabled(training):
                        layer(torch.randn(count, 8))
                    assert len(compiled_runs) - before == 2, (activation, glu, training, count)


def test_past_the_compilers_limit_a_call_raises(compiled_runs: list[int]) -> None:
    layer = PEER(8, experts=64, impl="compiled", **SIZES)
    with torch._dynamo.config.patch(recompile_limit=1, automatic_dynamic_shapes=False):
        layer(torch.randn(6, 8))
        with pytest.raises(
            RuntimeError,
            match="impl='compiled' met more .* than torch._dynamo.config.recompile_limit",
        ):
            layer(torch.randn(7, 8))
