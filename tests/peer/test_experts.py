import pytest
import torch

from peer import functional, reference
from tests.peer.cases import (
    assert_near_truth,
    experts_inputs,
    forward_and_gradients,
    named_experts,
    reference_experts,
)

ENGINES = ["aten", "native", "triton"]


def check(impl, inputs, grad, activation, dtype, **options):
    truth = forward_and_gradients(reference_experts(activation), inputs, grad, torch.float64)
    eager = forward_and_gradients(reference_experts(activation), inputs, grad)
    got = forward_and_gradients(named_experts(activation, impl, **options), inputs, grad)
    assert_near_truth(got, eager, truth, dtype)


@pytest.mark.parametrize("impl", ENGINES)
@pytest.mark.parametrize("glu", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "relu", "silu", "none"])
def test_activations(activation, glu, impl, kernel_device, nan_filled):
    torch.manual_seed(0)
    inputs, grad = experts_inputs(7, 5, 40, 9, torch.float32, kernel_device, glu)
    check(impl, inputs, grad, activation, torch.float32)


@pytest.mark.parametrize("impl", ENGINES)
@pytest.mark.parametrize("kind", ["uniform", "skewed", "same", "twice"])
@pytest.mark.parametrize("table_grad", ["dense", "sparse"])
@pytest.mark.parametrize(
    ("T", "P", "D", "N"), [(1, 1, 1, 1), (33, 3, 100, 4), (5, 16, 33, 9), (1, 128, 256, 16)]
)
def test_sizes_and_routing(T, P, D, N, table_grad, kind, impl, kernel_device, nan_filled):
    torch.manual_seed(T)
    inputs, grad = experts_inputs(T, P, D, N, torch.float32, kernel_device, kind=kind)
    check(impl, inputs, grad, "gelu", torch.float32, table_grad=table_grad)


@pytest.mark.parametrize("impl", ["aten", "triton"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(dtype, impl, kernel_device):
    torch.manual_seed(0)
    inputs, grad = experts_inputs(21, 12, 64, 16, dtype, kernel_device, kind="skewed")
    check(impl, inputs, grad, "gelu", dtype)


@pytest.mark.parametrize("impl", ENGINES)
def test_a_million_experts_touched_rows_only(impl, kernel_device):
    torch.manual_seed(0)
    inputs, grad = experts_inputs(3, 4, 8, 1, torch.float32, kernel_device)
    inputs["ids"] = torch.randint(1024**2, (3, 4), device=kernel_device)
    inputs["ids"][0, 0] = 1024**2 - 1
    tables = {n: torch.randn(1024**2, 8, device=kernel_device) for n in ("down", "up")}
    check(impl, inputs | tables, grad, "gelu", torch.float32, table_grad="sparse")


@pytest.mark.parametrize("impl", ENGINES)
def test_tables_beyond_2_to_the_31_elements(impl, kernel_device):
    """2048² experts, N·D = 2³²: the same bits as a table that holds only the rows in use.

    Memory that is never written costs nothing, so the tables take a few pages. Interpreted kernels do
    not overflow: there this shows the ATen path and the logic, on a GPU the offsets too.
    """
    torch.manual_seed(0)
    N, D, T, P = 2048**2, 1024, 3, 4
    dtype = torch.float32 if impl == "native" else torch.bfloat16
    inputs, grad = experts_inputs(T, P, D, T * P, dtype, kernel_device)
    used = torch.cat((torch.tensor([0, 2**21 - 1, 2**21]), torch.arange(N - 9, N)))
    order = torch.randperm(T * P).view(T, P)
    far = {"ids": used[order].to(kernel_device)}
    for name in ("down", "up"):
        table = torch.empty(N, D, dtype=dtype, device=kernel_device)
        table[used.to(kernel_device)] = inputs[name]
        far[name] = table.requires_grad_()
    near = {"ids": order.to(kernel_device)}
    near |= {name: inputs[name].clone().requires_grad_() for name in ("down", "up")}
    results = []
    for own in (far, near):
        x = inputs["x"].clone().requires_grad_()
        options = {"activation": "gelu", "table_grad": "sparse", "impl": impl}
        y = functional.experts(x, own["ids"], inputs["scores"], own["down"], own["up"], **options)
        y.backward(grad)
        tables = [own[name].grad._values() for name in ("down", "up")]
        results.append((y, x.grad, *tables))
    for one, other in zip(*results, strict=True):
        assert one.isfinite().all()
        assert torch.equal(one, other)


@pytest.mark.parametrize("impl", ["aten", "native"])
def test_float64_gradcheck(impl):
    inputs, _ = experts_inputs(3, 4, 5, 6, torch.float64, "cpu", glu=True)
    ids = inputs.pop("ids")
    leaves = [t.requires_grad_() for t in inputs.values()]

    def function(x, scores, down, up, gate):
        return functional.experts(x, ids, scores, down, up, gate, activation="silu", impl=impl)

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("impl", ENGINES)
def test_long_runs_repeat_bit_for_bit(impl, kernel_device, monkeypatch, nan_filled):
    if impl == "triton":
        from peer.kernels import launch

        monkeypatch.setattr(launch, "piece", lambda pairs: 4)
    torch.manual_seed(0)
    for kind in ("same", "skewed"):
        inputs, grad = experts_inputs(13, 5, 24, 9, torch.float32, kernel_device, kind=kind)
        for table_grad in ("dense", "sparse"):
            check(impl, inputs, grad, "gelu", torch.float32, table_grad=table_grad)
        function = named_experts("gelu", impl)
        once, again = (forward_and_gradients(function, inputs, grad) for _ in range(2))
        assert all(torch.equal(once[name], again[name]) for name in once)


@pytest.mark.parametrize("impl", ENGINES)
@pytest.mark.parametrize("leaf", ["x", "scores", "down", "up", "gate"])
def test_any_one_input_may_require_a_gradient(leaf, impl, kernel_device):
    inputs, grad = experts_inputs(6, 4, 8, 9, torch.float32, kernel_device, glu=True)
    all_of_them = forward_and_gradients(reference_experts("gelu"), inputs, grad)
    inputs[leaf].requires_grad_()
    named_experts("gelu", impl)(**inputs).backward(grad)
    torch.testing.assert_close(
        inputs[leaf].grad.double().cpu(), all_of_them[leaf], atol=1e-5, rtol=1e-5
    )
    assert all(t is None or t.grad is None for name, t in inputs.items() if name != leaf)


@pytest.mark.parametrize("impl", ENGINES)
def test_strided_and_expanded_inputs(impl, kernel_device):
    inputs, _ = experts_inputs(6, 4, 8, 9, torch.float32, kernel_device)
    inputs["x"] = torch.randn(8, 6).to(kernel_device).t()
    inputs["ids"] = inputs["ids"][:1].expand(6, 4)
    inputs["scores"] = torch.rand(6, 1).to(kernel_device).expand(6, 4)
    inputs["up"] = torch.randn(9, 16).to(kernel_device)[:, ::2]
    check(impl, inputs, torch.ones(1, 1, device=kernel_device).expand(6, 8), "gelu", torch.float32)


# NumPy warns of inf − inf where the interpreter meets it.
@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")
@pytest.mark.parametrize("impl", ENGINES)
def test_a_bad_token_leaves_the_others_alone(impl, kernel_device):
    inputs, _ = experts_inputs(6, 4, 8, 9, torch.float32, kernel_device)
    function = named_experts("gelu", impl)
    clean = function(**inputs)
    inputs["x"][2], inputs["x"][4] = float("nan"), float("inf")
    y = function(**inputs)
    others = [0, 1, 3, 5]
    assert torch.equal(y[others], clean[others])
    assert y[2].isnan().all()
    assert not y[4].isfinite().all()


@pytest.mark.parametrize("impl", ENGINES)
def test_no_tokens(impl, kernel_device):
    inputs, grad = experts_inputs(0, 4, 8, 9, torch.float32, kernel_device)
    got = forward_and_gradients(named_experts("gelu", impl), inputs, grad)
    assert got["y"].shape == (0, 8)
    assert not got["down"].any()


@pytest.mark.parametrize(
    ("impl", "dtype"),
    [(impl, torch.float32) for impl in ENGINES]
    + [("aten", torch.bfloat16), ("triton", torch.bfloat16)],
)
@pytest.mark.parametrize("kind", ["uniform", "same"])
def test_bag(kind, dtype, impl, kernel_device, nan_filled):
    inputs, grad = experts_inputs(11, 6, 40, 9, dtype, kernel_device, kind=kind)
    inputs = {"ids": inputs["ids"], "scores": inputs["scores"], "table": inputs["up"]}

    def named(ids, scores, table):
        return functional.bag(ids, scores, table, impl=impl)

    truth = forward_and_gradients(reference_bag, inputs, grad, torch.float64)
    eager = forward_and_gradients(reference_bag, inputs, grad)
    assert_near_truth(forward_and_gradients(named, inputs, grad), eager, truth, dtype)


def reference_bag(ids, scores, table):
    return reference.bag(ids, scores, table)


@pytest.mark.parametrize("bad", [-1, 9])
def test_ids_out_of_range(bad):
    inputs, _ = experts_inputs(6, 4, 8, 9, torch.float32, "cpu")
    inputs["ids"][3, 1] = bad
    for leaf in (None, "down"):
        if leaf:
            inputs[leaf].requires_grad_()
        with pytest.raises(ValueError, match=r"ids must be in \[0, 9\); got ids from"):
            named_experts("gelu", "aten")(**inputs)
    with pytest.raises(ValueError, match=r"ids must be in \[0, 9\)"):
        functional.bag(inputs["ids"], inputs["scores"], inputs["up"], impl="aten")


@pytest.mark.parametrize(
    ("name", "shape", "error", "message"),
    [
        ("up", (9, 7), ValueError, "up must be"),
        ("x", (5, 8), ValueError, "x must be"),
        ("scores", (6, 3), ValueError, "one shape"),
        ("ids", (6, 4), TypeError, "ids must be int32 or int64"),
    ],
)
def test_wrong_shapes_and_types(name, shape, error, message):
    inputs, _ = experts_inputs(6, 4, 8, 9, torch.float32, "cpu")
    inputs[name] = torch.randn(shape)
    with pytest.raises(error, match=message):
        named_experts("gelu", "aten")(**inputs)


def test_mixed_dtypes_and_devices():
    inputs, _ = experts_inputs(6, 4, 8, 9, torch.float32, "cpu")
    with pytest.raises(TypeError, match="one dtype and one device"):
        named_experts("gelu", "aten")(**(inputs | {"x": inputs["x"].double()}))
    with pytest.raises(TypeError, match="ids on meta"):
        named_experts("gelu", "aten")(**(inputs | {"ids": inputs["ids"].to("meta")}))


def test_sparse_gradients_need_an_operator():
    inputs, _ = experts_inputs(6, 4, 8, 9, torch.float32, "cpu")
    with pytest.raises(ValueError, match="use 'aten' or 'triton'"):
        named_experts("gelu", "reference", table_grad="sparse")(**inputs)
