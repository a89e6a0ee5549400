import subprocess
import sys

import pytest
import torch

from peer import PEER, costs, functional, operators, reference
from peer.choice import resolve
from tests.peer.cases import experts_inputs


def operands(impl, device, glu=False):
    torch.manual_seed(0)
    inputs, grad = experts_inputs(4, 6, 8, 9, torch.float32, device, glu)
    order, bounds = operators.route(inputs["ids"], 9, True, impl)
    return inputs, grad, order, bounds


def differentiable(*tensors):
    return [None if t is None else t.clone().requires_grad_() for t in tensors]


@pytest.mark.parametrize("impl", ["aten", "native", "triton"])
def test_opcheck_retrieve(impl, kernel_device):
    query, keys = torch.randn(3, 2, 8).to(kernel_device), torch.randn(2, 6, 4).to(kernel_device)
    scores, ids = operators.retrieve(query, keys, 3, "softmax", impl)
    torch.library.opcheck(
        torch.ops.peer.retrieve.default, (*differentiable(query, keys), 3, "softmax", impl)
    )
    arguments = (torch.randn_like(scores), scores, ids, query, keys, "softmax", impl, True, True)
    torch.library.opcheck(torch.ops.peer.retrieve_backward.default, arguments)


@pytest.mark.parametrize("impl", ["aten", "native", "triton"])
@pytest.mark.parametrize("glu", [False, True])
@pytest.mark.parametrize("routed", [False, True])
def test_opcheck_experts(routed, glu, impl, kernel_device):
    inputs, grad, order, bounds = operands(impl, kernel_device, glu)
    x, ids, scores, *tables = inputs.values()
    route = (order, bounds) if routed else (None, None)
    x, scores, *tables = differentiable(x, scores, *tables)
    arguments = (x, ids, scores, *tables, *route, "gelu", "dense", True, impl)
    torch.library.opcheck(torch.ops.peer.experts.default, arguments)
    _, hidden, gates = operators.experts(*arguments)
    values = [None if t is None else t.detach() for t in (grad, x, ids, scores, *tables)]
    rest = (order, bounds, None, hidden.detach(), gates.detach(), "gelu", impl, True, True, True)
    torch.library.opcheck(torch.ops.peer.experts_backward.default, (*values, *rest))


@pytest.mark.parametrize("impl", ["aten", "native", "triton"])
def test_opcheck_bag_route_and_touched(impl, kernel_device):
    inputs, grad, order, bounds = operands(impl, kernel_device)
    ids, scores, table = inputs["ids"], inputs["scores"], inputs["up"]
    leaves = differentiable(scores, table)
    torch.library.opcheck(
        torch.ops.peer.bag.default, (ids, *leaves, order, bounds, "dense", True, impl)
    )
    arguments = (grad, ids, scores, table, order, bounds, None, impl, True, True)
    torch.library.opcheck(torch.ops.peer.bag_backward.default, arguments)
    torch.library.opcheck(torch.ops.peer.route.default, (ids, 9, True, impl))
    torch.library.opcheck(torch.ops.peer.touched.default, (bounds, impl))


def test_route_sorts_stably():
    ids = torch.tensor([[3, 0], [3, 1], [0, 3]], dtype=torch.int32)
    order, bounds = operators.route(ids, 5, True, "aten")
    assert order.tolist() == [1, 4, 3, 0, 2, 5]
    assert bounds.tolist() == [0, 2, 3, 3, 6, 6]


@pytest.mark.parametrize("glu", [False, True])
def test_compiles_without_graph_breaks(glu):
    torch.manual_seed(0)
    layer = PEER(16, experts=64, heads=2, topk=4, dim_key=8, glu=glu, impl="aten")
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 16)
    expected, got = layer(x), compiled(x)
    torch.testing.assert_close(got, expected)
    (expected_grad,) = torch.autograd.grad(expected.sum(), layer.down)
    (grad,) = torch.autograd.grad(got.sum(), layer.down)
    torch.testing.assert_close(grad, expected_grad)


def test_sparse_gradients_are_refused_under_compile():
    layer = PEER(16, experts=64, heads=2, topk=4, dim_key=8, impl="aten", table_grad="sparse")
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match="table_grad='sparse' has no compiled backward"):
        compiled(torch.randn(5, 16))


@pytest.mark.parametrize("impl", ["aten", "native", "triton"])
def test_only_ids_from_elsewhere_are_checked(impl, kernel_device, monkeypatch):
    """A check of ids costs five launches; those of the layer's own router are in range."""

    def refuse(ids, experts):
        raise ValueError("checked")

    for verb in ("mixture", "routing"):
        monkeypatch.setattr(f"peer.operators.{verb}.check_ids", refuse)
    layer = PEER(16, experts=64, heads=2, topk=4, dim_key=8, impl=impl).to(kernel_device)
    x = torch.randn(5, 16, device=kernel_device)
    layer(x).sum().backward()
    scores, ids = layer.router(x)
    with pytest.raises(ValueError, match="checked"):
        functional.experts(x, ids.flatten(1), scores.flatten(1), layer.down, layer.up, impl=impl)


@pytest.mark.parametrize("impl", ["aten", "native", "triton"])
def test_autocast_keeps_the_tables_dtype(impl, kernel_device):
    torch.manual_seed(0)
    layer = PEER(16, experts=64, heads=2, topk=4, dim_key=8, impl=impl).to(kernel_device)
    x = torch.randn(9, 16, device=kernel_device)
    plain = layer(x)
    with torch.autocast(kernel_device.type, torch.bfloat16):
        mixed = layer(x)
        assert layer.router.query(x).dtype == torch.bfloat16
    assert mixed.dtype == x.dtype
    mixed.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())
    assert (mixed - plain).square().mean() < 0.1 * plain.square().mean()


@pytest.mark.parametrize("impl", ["aten", "native", "triton"])
def test_meta_tensors_cost_nothing(impl):
    with torch.device("meta"):
        layer = PEER(4096, experts=2048**2, impl=impl)
        y = layer(torch.randn(7, 4096))
        y.sum().backward()
    assert y.shape == (7, 4096)
    assert layer.up.grad.shape == (2048**2, 4096)


def test_flop_formulas_agree_with_the_layer():
    layer = PEER(16, experts=64, heads=2, topk=4, dim_key=8, glu=True)
    T, P = 5, 8
    parts = layer.flops(T)
    assert costs.retrieve_flops((T, 2, 8), (2, 8, 4), 4, "softmax", "aten") == parts["sub_keys"]
    tables = ((64, 16),) * 3
    forward = costs.experts_flops((T, 16), (T, P), (T, P), *tables)
    assert forward == parts["experts"]
    rest = (None, None, None, (T, P), (T, P), "gelu", "aten", True, True, True)
    backward = costs.experts_backward_flops((T, 16), (T, 16), (T, P), (T, P), *tables, *rest)
    assert backward == 2 * forward
    arguments = ((T, 16), (16, 16), None, "batch", [], 0.0, (2, 8, 4), *tables, 4)
    assert costs.few_tokens_flops(*arguments) == sum(parts.values())
    operator = torch._library.custom_ops.CustomOpDef | torch._ops.OpOverloadPacket
    assert set(costs.FLOPS) == {
        f"peer::{name}" for name, value in vars(operators).items() if isinstance(value, operator)
    }


def test_expected_distinct_experts():
    torch.manual_seed(0)
    drawn = torch.randint(100, (150,)).unique().numel()
    assert costs.distinct_experts(150, 100) == pytest.approx(drawn, abs=12)
    assert costs.distinct_experts(150, 1) == 1


def test_triton_says_why_it_cannot_run(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="runs on a GPU, or anywhere with TRITON_INTERPRET=1"):
        resolve("triton", torch.device("cpu"), torch.float32)
    with pytest.raises(ValueError, match="takes float32, bfloat16 or float16; got"):
        resolve("triton", torch.device("cuda"), torch.float64)
    monkeypatch.setattr("peer.choice.triton_installed", lambda: False)
    with pytest.raises(ValueError, match="needs the package triton"):
        resolve("triton", torch.device("cuda"), torch.float32)
    assert resolve("auto", torch.device("cuda"), torch.float32) == "aten"


def test_imports_without_triton():
    code = (
        "import sys; sys.modules['triton'] = None; import peer; "
        "print(peer.PEER(4, experts=16, topk=2))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("nonlinearity", ["softmax", "sigmoid", "relu", "raw"])
def test_score_gradient(nonlinearity):
    match = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    scores = reference.SCORES[nonlinearity](match)
    grad = torch.randn(3, 5, dtype=torch.float64)
    (expected,) = torch.autograd.grad(scores, match, grad)
    got = operators.score_gradient(grad, scores.detach(), nonlinearity)
    torch.testing.assert_close(got, expected)
