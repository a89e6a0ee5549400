"""What only the engine that numba compiles promises: the same bits on any number of threads."""

import pytest
import torch

from peer import choice, functional
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


def test_is_kept_on_disk_only_where_that_is_possible(monkeypatch):
    from peer.native.threads import compiled

    plain = numba.njit

    def no_folder(*, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return plain(**options)

    monkeypatch.setattr(numba, "njit", no_folder)
    assert compiled()(lambda value: value + 1)(2) == 3


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
