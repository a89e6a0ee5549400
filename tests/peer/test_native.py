"""What only the engine that numba compiles promises: the same bits on any number of threads."""

import subprocess
import sys
import types

import pytest
import torch

from peer import PEER, choice, explain, functional, serving
from tests.peer.cases import experts_inputs, forward_and_gradients, named_experts

numba = pytest.importorskip("numba")


@pytest.fixture
def threads():
    """Sets torch's number of threads for a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["uniform", "skewed", "same"])
@pytest.mark.parametrize("table_grad", ["dense", "sparse"])
@pytest.mark.parametrize("glu", [False, True])
def test_same_bits_from_one_to_three_threads(glu, table_grad, kind, threads, nan_filled):
    inputs, grad = experts_inputs(37, 11, 40, 29, torch.float32, "cpu", glu, kind)
    function = named_experts("gelu", "native", table_grad=table_grad)
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append(forward_and_gradients(function, inputs, grad))
    for other in results[1:]:
        assert all(torch.equal(results[0][name], other[name]) for name in other)


def test_without_openmp(monkeypatch, threads):
    """Where torch has no OpenMP library one thread does it all."""
    from peer.native import threads as native_threads

    inputs, grad = experts_inputs(9, 5, 16, 7, torch.float32, "cpu")
    function = named_experts("gelu", "native")
    threads(2)
    together = forward_and_gradients(function, inputs, grad)
    monkeypatch.setattr(native_threads, "openmp", lambda: 0)
    alone = forward_and_gradients(function, inputs, grad)
    assert all(torch.equal(together[name], alone[name]) for name in alone)


def test_says_why_it_cannot_run(monkeypatch):
    cpu = torch.device("cpu")
    with pytest.raises(
        ValueError, match="impl='native' takes float32 or float64; got torch.bfloat16"
    ):
        choice.resolve("native", cpu, torch.bfloat16)
    with pytest.raises(ValueError, match="impl='native' runs on a CPU; got tensors on cuda"):
        choice.resolve("native", torch.device("cuda"), torch.float32)
    monkeypatch.setattr(choice, "numba_installed", lambda: False)
    with pytest.raises(ValueError, match="impl='native' needs the package numba"):
        functional.bag(torch.zeros(1, 1).int(), torch.ones(1, 1), torch.ones(1, 4), impl="native")


def test_auto_takes_what_was_faster_at_the_nearest_measured_size(monkeypatch):
    rows = [(1_000, 2.0, 1.0), (100_000, 3.0, 9.0)]
    rows = [dict(zip(("pairs", "aten_ms", "native_ms"), row, strict=True)) for row in rows]
    monkeypatch.setattr(choice, "measured", lambda: rows)
    monkeypatch.setattr(choice, "fastest", choice.fastest.__wrapped__)  # what it kept is of others
    cpu, real = torch.device("cpu"), torch.float32
    assert choice.resolve("auto", cpu, real, 2_000) == "native"
    assert choice.resolve("auto", cpu, real, 90_000) == "aten"
    assert choice.resolve("auto", cpu, real) == "aten"
    assert choice.resolve("auto", cpu, torch.bfloat16, 2_000) == "aten"


def test_the_committed_sizes_are_read():
    assert {"experts", "dim", "tokens", "pairs", "aten_ms", "native_ms"} == set(
        choice.measured()[0]
    )
    assert choice.fastest(2048 * 128) in ("aten", "native")


def test_auto_without_numba_is_aten_and_says_so(monkeypatch):
    monkeypatch.setattr(choice, "numba_installed", lambda: False)
    monkeypatch.setattr(sys.modules["peer.explain"], "numba_installed", lambda: False)
    layer = PEER(8, experts=16, heads=2, topk=2)
    assert layer.implementation == "aten"
    assert (
        explain(layer, 4, bytes_per_second=1e9).reason
        == "numba, which native needs, is not installed: pip install numba"
    )


def test_numba_is_imported_by_the_first_use_alone():
    code = (
        "import sys, torch; before = set(sys.modules); import peer; layer = peer.PEER(8, experts=16, "
        "heads=2, topk=2); assert 'numba' not in set(sys.modules) - before"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_is_kept_on_disk_only_where_that_is_possible(monkeypatch):
    from peer.native import threads as native_threads

    asked = []

    def njit(*, cache=False, **options):
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(native_threads, "numba", types.SimpleNamespace(njit=njit))
    assert native_threads.compiled()(lambda value: value + 1)(2) == 3
    assert asked == [True, False]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("S", [40, 300])
def test_a_key_without_a_number_is_still_selected_exactly(S, value, threads):
    """And every other choice is brute force's; ties among whole numbers go by the lowest id."""
    query, keys = torch.randint(-2, 3, (9, 2, 8)).float(), torch.randint(-2, 3, (2, S, 4)).float()
    expected = functional.retrieve(query, keys, 16, scores="relu", impl="reference")
    got = functional.retrieve(query, keys, 16, scores="relu", impl="native")
    assert all(map(torch.equal, got, expected))
    keys[0, 7] = value
    ids = functional.retrieve(query.abs() + 1, keys, 16, impl="native")[1]
    assert (ids // S == 7).all() if value != -float("inf") else not (ids // S == 7).any()


@pytest.mark.parametrize("per_head", [False, True])
def test_retrieval_has_the_same_bits_on_any_number_of_threads(per_head, threads, monkeypatch):
    from peer.native import selection

    monkeypatch.setattr(selection, "CHUNK_BYTES", 100_000)  # several chunks, the last one short
    query = torch.randn(301, 3, 16)
    keys = torch.randn(*((2, 3, 70, 8) if per_head else (2, 70, 8)))
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append(functional.retrieve(query, keys, 20, impl="native"))
    expected = functional.retrieve(query, keys, 20, impl="reference")
    assert torch.equal(results[0][1], expected[1])
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def served_and_not(options, T, dtype=torch.float32):
    """What a layer answers in one operator, and step by step; and how often the router was called."""
    layer = PEER(20, experts=64, heads=3, topk=4, dim_key=10, impl="native", **options).to(dtype)
    for parameter in layer.router.norm.parameters():
        torch.nn.init.normal_(parameter)
    layer(torch.randn(32, 20, dtype=dtype))
    layer.eval()
    x = torch.randn(T, 20, dtype=dtype)
    stepwise = layer(x).detach()
    with torch.no_grad():
        return layer(x), stepwise, layer, x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("T", [1, 5, 16])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"query_norm": "layer", "glu": True, "scores": "sigmoid", "activation": "silu"},
        {"query_norm": None, "shared_keys": False, "scores": "relu", "activation": "relu"},
        {"query_norm": None, "scores": "raw", "activation": "none"},
    ],
)
def test_few_tokens_in_one_operator(options, T, dtype, monkeypatch, nan_filled):
    got, stepwise, layer, x = served_and_not(options, T, dtype)
    near = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(got, stepwise, atol=near, rtol=near)
    monkeypatch.setattr(layer.router, "forward", None)  # nothing of it is called
    with torch.no_grad():
        assert torch.equal(layer(x), got)


def test_few_tokens_have_the_same_bits_on_any_number_of_threads(threads, monkeypatch):
    from peer.native import few

    monkeypatch.setattr(few, "THREADS_FROM_NUMBERS", 0)
    results = []
    for count in (1, 2, 3):
        threads(count)
        torch.manual_seed(0)
        results.append(served_and_not({}, 3)[0])
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_whoever_looks_inside_sees_every_step(monkeypatch):
    *_, layer, x = served_and_not({}, 2)
    monkeypatch.setattr("peer.layer.serve", None)
    layer(x).sum().backward()
    seen = []
    handle = layer.router.register_forward_hook(lambda *_: seen.append(1))
    with torch.no_grad():
        layer(x)
    handle.remove()
    assert seen == [1]
    with torch.no_grad():
        layer(torch.randn(17, 20))
        with torch.autocast("cpu", torch.bfloat16):
            layer(x)
        layer.train()(x)


def test_transforms_see_every_step():
    *_, layer, x = served_and_not({}, 2)
    served = []

    def look(tokens):
        served.append(serving.is_served(layer, tokens))
        return tokens

    with torch.no_grad():
        look(x)
        torch.func.vmap(look)(x.unsqueeze(1))
        torch.func.jvp(look, (x,), (x,))
        with torch.autograd.forward_ad.dual_level():
            look(x)
    assert served == [True, False, False, False]


def test_a_bad_token_among_few_leaves_the_others_alone():
    got, _, layer, x = served_and_not({}, 4)
    x[2] = float("nan")
    with torch.no_grad():
        bad = layer(x)
    assert torch.equal(bad[[0, 1, 3]], got[[0, 1, 3]])
    assert bad[2].isnan().all()


def test_opcheck_few_tokens():
    layer = PEER(8, experts=16, heads=2, topk=2, dim_key=4, impl="native").eval()
    router = layer.router
    norm = [router.norm.weight, router.norm.bias, router.norm.running_mean, router.norm.running_var]
    tensors = (router.sub_keys, layer.down, layer.up, None)
    with torch.no_grad():
        torch.library.opcheck(
            torch.ops.peer.few_tokens.default,
            (
                torch.randn(3, 8),
                router.query.weight,
                None,
                "batch",
                norm,
                1e-5,
                *tensors,
                2,
                "softmax",
                "gelu",
            ),
            test_utils=("test_schema", "test_faketensor"),
        )
