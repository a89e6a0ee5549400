import pytest
import torch
import torch.nn.functional as F

from peer import PEER

SMALL = {"experts": 32**2, "heads": 4, "topk": 8, "dim_key": 32}


def dense_variance(activation: str) -> float:
    """Output variance of a dense layer with weights N(0, 1/D) and N(0, 1/4D): E[σ(z)²]."""
    z = torch.randn(400_000, dtype=torch.float64)
    return {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}[activation](z).square().mean().item()


@pytest.mark.parametrize("scores", ["softmax", "sigmoid", "relu"])
@pytest.mark.parametrize("dim", [32, 96, 256])
def test_output_variance_at_init_is_the_dense_layers(dim, scores):
    torch.manual_seed(0)
    layer = PEER(dim, scores=scores, impl="aten", **SMALL)
    y = layer(torch.randn(1024, dim))
    assert y.var().item() == pytest.approx(dense_variance("gelu"), rel=0.25)


def test_live_gradients_at_init():
    """Tables of unit variance saturate GELU and leave two fifths of the retrieved experts without
    gradient.
    """
    torch.manual_seed(0)
    layer = PEER(64, impl="aten", **SMALL)
    x = torch.randn(512, 64)
    layer(x).square().sum().backward()
    _, ids = layer.router(x)
    retrieved = ids.unique().long()
    for table in layer.tables():
        live = table.grad[retrieved].abs().amax(1) > 1e-6 * table.grad.abs().max()
        assert live.double().mean() > 0.99


@pytest.mark.parametrize("impl", ["reference", "aten", "native", "triton"])
@pytest.mark.parametrize("query_norm", ["batch", "layer", None])
@pytest.mark.parametrize("shared_keys", [True, False])
def test_every_parameter_gets_a_gradient(shared_keys, query_norm, impl, kernel_device):
    torch.manual_seed(0)
    layer = PEER(
        12,
        experts=25,
        heads=2,
        topk=3,
        dim_key=8,
        query_norm=query_norm,
        shared_keys=shared_keys,
        glu=True,
        impl=impl,
    ).to(kernel_device)
    layer(torch.randn(2, 8, 12, device=kernel_device)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad.abs().max() > 0, name
    assert layer.router.sub_keys.grad.flatten(1).abs().amax(1).min() > 0


def test_active_experts_are_heads_times_topk():
    layer = PEER(16, impl="aten", **SMALL)
    scores, ids = layer.router(torch.randn(5, 16))
    assert scores.shape == ids.shape == (5, 4, 8)
    assert all(len(set(row.tolist())) == 8 for row in ids.flatten(0, 1))
    torch.testing.assert_close(scores.sum(-1), torch.ones(5, 4))


def test_implementations_agree(kernel_device):
    torch.manual_seed(0)
    layers = {
        impl: PEER(20, experts=81, heads=2, topk=3, dim_key=8, impl=impl).to(kernel_device)
        for impl in ("reference", "aten", "native", "triton")
    }
    x = torch.randn(11, 20, device=kernel_device)
    results = {}
    for impl, layer in layers.items():
        layer.load_state_dict(layers["reference"].state_dict())
        layer(x).square().sum().backward()
        results[impl] = {name: p.grad for name, p in layer.named_parameters()}
    for impl in ("aten", "native", "triton"):
        for name, grad in results[impl].items():
            expected = results["reference"][name]
            torch.testing.assert_close(grad, expected, atol=1e-4, rtol=1e-4, msg=f"{impl} {name}")


@pytest.mark.slow
def test_compiled_reference_agrees():
    torch.manual_seed(0)
    layer = PEER(20, experts=81, heads=2, topk=3, dim_key=8, impl="compiled")
    plain = PEER(20, experts=81, heads=2, topk=3, dim_key=8, impl="reference")
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(11, 20)
    with torch.no_grad():  # spares the compilation of a backward
        torch.testing.assert_close(layer(x), plain(x))


def test_no_tokens():
    layer = PEER(16, impl="aten", **SMALL)
    y = layer(torch.randn(2, 0, 16))
    assert y.shape == (2, 0, 16)
    y.sum().backward()


def test_representation_names_the_resolved_implementation(monkeypatch):
    monkeypatch.setattr("peer.choice.numba_installed", lambda: False)
    assert "impl='auto' -> 'aten'" in repr(PEER(16, **SMALL))


def test_tables_larger_than_memory():
    with pytest.raises(MemoryError, match="2 × 4,194,304 × 1,048,576 float32 take 35,184.4 GB"):
        PEER(2**20, experts=2048**2)
    with torch.device("meta"):
        assert PEER(2**20, experts=2048**2).down.numel() == 2**42
