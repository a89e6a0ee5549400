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
