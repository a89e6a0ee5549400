"""An optimizer's step inside backward against its plain step on the stored gradient."""

import copy
import pickle

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from baselines import PKM
from peer import PEER, functional
from peer.optim import RowAdagrad, TouchedAdamW
from tests.peer.cases import experts_inputs
from tests.peer.conftest import DEVICE, EXECUTES

ENGINES = ["aten", "native", "triton"]
OPTIMIZERS = {
    "adamw": lambda tables: TouchedAdamW(tables, lr=0.1, weight_decay=0.1),
    "row_adagrad": lambda tables: RowAdagrad(tables, lr=0.1),
}
NAMES = ("down", "up", "gate")


def steps(inputs, grads, make, impl, *, inside, schedule=(1.0, 0.5, 0.25)):
    """After some steps: tables, moments, and the last gradients of x and scores."""
    tables = [inputs[n].clone().requires_grad_() for n in NAMES if inputs[n] is not None]
    optimizer = make(tables)
    base = optimizer.param_groups[0]["lr"]
    for factor, grad in zip(schedule, grads, strict=True):
        optimizer.param_groups[0]["lr"] = base * factor
        x, scores = (inputs[n].clone().requires_grad_() for n in ("x", "scores"))
        table_grad = optimizer if inside else "sparse"
        y = functional.experts(
            x, inputs["ids"], scores, *tables, activation="silu", table_grad=table_grad, impl=impl
        )
        y.backward(grad)
        assert all((table.grad is None) == inside for table in tables)
        optimizer.step()
        optimizer.zero_grad()
    state = [optimizer.state[table] for table in tables]
    moments = [own[name] for own in state for name in ("mean", "square") if name in own]
    assert all(own.get("step", 3) == 3 for own in state)
    return [t.detach() for t in (*tables, *moments, x.grad, scores.grad)]


def assert_same_steps(inputs, grad, make, impl):
    grads = [grad, -0.5 * grad, grad.flip(0)]
    plain, inside = (steps(inputs, grads, make, impl, inside=i) for i in (False, True))
    for stored, taken in zip(plain, inside, strict=True):
        assert taken.isfinite().all()
        if impl == "aten":
            assert torch.equal(taken, stored)
        else:
            # A fused multiply-add rounds once where two operations round twice, and the interpreter
            # cuts bfloat16 off instead of rounding it. AdamW divides a gradient by its own size, so
            # the last bit of a gradient near 0 shows where compiled code fused a product into its sum.
            fused = EXECUTES or DEVICE == "cuda"
            near = {torch.bfloat16: 3e-2, torch.float16: 2e-3}.get(
                inputs["x"].dtype, 1e-4 if fused else 1e-5
            )
            scale = stored.abs().max().item()
            torch.testing.assert_close(taken, stored, rtol=near, atol=near * scale)


@pytest.mark.parametrize("impl", ENGINES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["uniform", "skewed", "same", "twice"])
@pytest.mark.parametrize(
    ("T", "P", "D", "N", "glu"),
    [(1, 1, 1, 1, False), (9, 6, 100, 20, True), (5, 8, 33, 9, False)],
)
def test_equals_the_plain_step(T, P, D, N, glu, kind, optimizer, impl, kernel_device, nan_filled):
    torch.manual_seed(T)
    inputs, grad = experts_inputs(T, P, D, N, torch.float32, kernel_device, glu, kind)
    assert_same_steps(inputs, grad, OPTIMIZERS[optimizer], impl)


@pytest.mark.parametrize("impl", ["aten", "triton"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(dtype, optimizer, impl, kernel_device):
    torch.manual_seed(0)
    inputs, grad = experts_inputs(9, 8, 64, 16, dtype, kernel_device, kind="skewed")
    assert_same_steps(inputs, grad, OPTIMIZERS[optimizer], impl)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("impl", ENGINES)
def test_in_pieces(impl, optimizer, kernel_device, monkeypatch, nan_filled):
    """Long runs in Triton; several parts of the gradient in ATen."""
    if impl == "triton":
        from peer.kernels import launch

        monkeypatch.setattr(launch, "piece", lambda pairs: 4)
    else:
        from peer import aten

        monkeypatch.setattr(aten, "GRADIENT_ROWS_AT_ONCE", 3)
    torch.manual_seed(0)
    for kind in ("same", "skewed"):
        inputs, grad = experts_inputs(13, 5, 24, 9, torch.float32, kernel_device, kind=kind)
        assert_same_steps(inputs, grad, OPTIMIZERS[optimizer], impl)


@pytest.mark.parametrize("impl", ENGINES)
def test_untouched_rows_keep_value_and_moments(impl, kernel_device):
    inputs, grad = experts_inputs(3, 2, 8, 50, torch.float32, kernel_device)
    grads = [grad] * 3
    down, up, *moments, _, _ = steps(inputs, grads, OPTIMIZERS["adamw"], impl, inside=True)
    untouched = torch.ones(50, dtype=torch.bool, device=kernel_device)
    untouched[inputs["ids"].flatten().long()] = False
    assert torch.equal(down[untouched], inputs["down"][untouched])
    assert torch.equal(up[untouched], inputs["up"][untouched])
    assert not torch.equal(up, inputs["up"])
    assert not any(moment[untouched].any() for moment in moments)


@pytest.mark.parametrize("impl", ENGINES)
def test_a_frozen_table_stays(impl, kernel_device):
    inputs, grad = experts_inputs(6, 4, 8, 9, torch.float32, kernel_device)
    before = inputs["down"].clone()
    inputs["up"].requires_grad_()
    optimizer = RowAdagrad([inputs["up"]])
    y = functional.experts(**named(inputs), table_grad=optimizer, impl=impl)
    y.backward(grad)
    assert torch.equal(inputs["down"], before)
    assert optimizer.state[inputs["up"]]["square"].any()


def named(inputs):
    suffix = {"x": "x_TD", "ids": "ids_TP", "scores": "scores_TP", "down": "down_ND", "up": "up_ND"}
    return {suffix[name]: value for name, value in inputs.items() if name in suffix}


@pytest.mark.parametrize("kind", [PEER, PKM])
def test_a_layer_trains_as_with_stored_gradients(kind):
    torch.manual_seed(0)
    sizes = {"experts": 32**2} if kind is PEER else {"memories": 32**2}
    plain = kind(16, **sizes, heads=2, topk=4, dim_key=16, impl="aten", table_grad="sparse")
    inside = copy.deepcopy(plain)
    x, target = torch.randn(8, 16), torch.randn(8, 16)
    losses = {}
    for layer in (plain, inside):
        tables = TouchedAdamW(layer.tables(), lr=1e-2)
        if layer is inside:
            layer.table_grad = tables
        rest = [p for p in layer.parameters() if all(p is not table for table in layer.tables())]
        router = torch.optim.AdamW(rest, lr=1e-2)
        losses[layer] = []
        for _ in range(8):
            loss = (layer(x) - target).square().mean()
            loss.backward()
            losses[layer].append(loss.item())
            for optimizer in (tables, router):
                optimizer.step()
                optimizer.zero_grad()
    assert losses[inside] == losses[plain]
    assert losses[inside][-1] < 0.9 * losses[inside][0]
    assert "table_grad=TouchedAdamW" in repr(inside)


@pytest.mark.parametrize("kind", [PEER, PKM])
@pytest.mark.parametrize("reentrant", [False, True])
def test_under_activation_checkpointing(kind, reentrant):
    """Which saves other tensor objects in the place of the tables."""
    torch.manual_seed(0)
    sizes = {"experts": 16**2} if kind is PEER else {"memories": 16**2}
    plain = kind(16, **sizes, heads=2, topk=4, dim_key=16, impl="aten")
    checked = copy.deepcopy(plain)
    for layer in (plain, checked):
        layer.table_grad = TouchedAdamW(layer.tables(), lr=0.1)
    for _ in range(3):
        x = torch.randn(9, 16, requires_grad=True)
        plain(x).square().sum().backward()
        checkpoint(checked, x, use_reentrant=reentrant).square().sum().backward()
        plain.table_grad.step()
        checked.table_grad.step()
    torch.testing.assert_close(checked.tables(), plain.tables())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_of_a_layer_steps_its_own_tables(copied):
    layer = PEER(16, experts=8**2, heads=2, topk=4, dim_key=16, impl="aten")
    layer.table_grad = TouchedAdamW(layer.tables(), lr=1.0)
    other = copied(layer)
    assert torch.equal(other.up, layer.up)
    other(torch.randn(5, 16)).sum().backward()
    other.table_grad.step()
    assert not torch.equal(other.up, layer.up)


def test_evaluation_takes_no_step():
    layer = small_layer()
    before = layer.up.clone()
    with torch.no_grad():
        layer(torch.randn(4, 16))
    layer.eval()(torch.randn(4, 16))
    assert torch.equal(layer.up, before)


def small_layer(make=TouchedAdamW, **options):
    layer = PEER(16, experts=64, heads=2, topk=4, dim_key=8, **({"impl": "aten"} | options))
    layer.table_grad = make(layer.tables())
    return layer


def test_a_second_backward_before_the_step_is_refused():
    layer = small_layer()
    layer(torch.randn(4, 16)).sum().backward()
    with pytest.raises(RuntimeError, match="accumulate gradients with table_grad='sparse'"):
        layer(torch.randn(4, 16)).sum().backward()


def test_a_step_between_forward_and_backward_is_noticed():
    layer = small_layer()
    first, second = layer(torch.randn(4, 16)), layer(torch.randn(4, 16))
    first.sum().backward()
    layer.table_grad.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        second.sum().backward()


def test_a_gradient_from_elsewhere_is_refused():
    layer = small_layer()
    (layer(torch.randn(4, 16)).sum() + layer.up.square().sum()).backward()
    with pytest.raises(RuntimeError, match="has a gradient from elsewhere too"):
        layer.table_grad.step()


def test_tables_of_another_optimizer_are_refused():
    layer = small_layer()
    layer.table_grad = RowAdagrad([layer.down])
    with pytest.raises(ValueError, match="up is none of the parameters of the RowAdagrad"):
        layer(torch.randn(4, 16))


def test_strided_tables_are_refused():
    inputs, _ = experts_inputs(6, 4, 8, 9, torch.float32, "cpu")
    inputs["up"] = torch.randn(9, 16)[:, ::2].requires_grad_()
    with pytest.raises(ValueError, match="up must be contiguous"):
        functional.experts(**named(inputs), table_grad=RowAdagrad([inputs["up"]]), impl="aten")


def test_needs_an_operator_and_no_compile():
    layer = small_layer()
    layer.impl = "reference"
    with pytest.raises(ValueError, match="for table_grad=TouchedAdamW use 'aten' or 'triton'"):
        layer(torch.randn(4, 16))
    layer.impl = "aten"
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match="table_grad=TouchedAdamW has no compiled backward"):
        compiled(torch.randn(5, 16))


def test_several_processes_are_refused(monkeypatch):
    from peer import optim

    monkeypatch.setattr(optim, "processes", lambda: 2)
    with pytest.raises(ValueError, match="the copies of a table would drift apart"):
        small_layer()(torch.randn(4, 16))


def test_an_unknown_kind_of_gradient():
    layer = small_layer()
    layer.table_grad = torch.optim.SGD(layer.tables())
    with pytest.raises(ValueError, match="one of dense, sparse or an optimizer of peer.optim"):
        layer(torch.randn(4, 16))
