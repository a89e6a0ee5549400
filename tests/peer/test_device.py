"""What a GPU asks of the operation besides right numbers: no waiting, CUDA graphs, deterministic mode."""

import copy
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from peer import PEER, operators
from peer.optim import RowAdagrad, TouchedAdamW
from tests.peer.conftest import refused_waits

needs_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def layer_on_gpu() -> PEER:
    torch.manual_seed(0)
    return PEER(64, experts=64**2, heads=2, impl="triton").cuda()


@pytest.mark.gpu
@needs_a_gpu
def test_forward_and_backward_never_wait_for_the_device():
    layer = layer_on_gpu()
    x = torch.randn(32, 64, device="cuda", requires_grad=True)
    layer(x).sum().backward()
    with refused_waits():
        layer(x).sum().backward()


def test_refusing_waits_survives_a_warning_and_an_error(monkeypatch):
    """torch says that the mode is a prototype, and pytest makes an error of that."""
    modes = []

    def set_mode(mode):
        modes.append(mode)
        warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=2)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    with pytest.raises(KeyError), refused_waits():
        raise KeyError
    assert modes == ["error", "default"]


def test_the_marker_selects_the_kernels_tests():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-m",
        "gpu",
        "-p",
        "no:xdist",
    ]
    file = Path(__file__).with_name("test_retrieve.py")
    done = subprocess.run([*command, file], capture_output=True, text=True, check=True)
    assert "test_random_queries[softmax-triton]" in done.stdout


def test_deterministic_mode_finds_its_workspace():
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")


def test_the_number_of_touched_rows_cannot_be_captured(monkeypatch):
    monkeypatch.setattr("peer.operators.routing.capturing", lambda like: True)
    with pytest.raises(RuntimeError, match="table_grad='sparse' cannot be captured"):
        operators.touched(torch.tensor([0, 1, 1], dtype=torch.int32), "aten")


@pytest.mark.parametrize("optimizer", [TouchedAdamW, RowAdagrad])
def test_a_first_step_cannot_be_captured(optimizer, monkeypatch):
    table = torch.nn.Parameter(torch.zeros(3, 2))
    steps = optimizer([table])
    monkeypatch.setattr("peer.optim.capturing", lambda like: True)
    with pytest.raises(RuntimeError, match="take a step before the capture"):
        steps.next_step(table)
    monkeypatch.undo()
    steps.next_step(table)
    monkeypatch.setattr("peer.optim.capturing", lambda like: True)
    steps.next_step(table)


def test_the_bias_correction_follows_a_step_counted_on_the_device():
    """What a replayed graph does: it adds to the step's memory, and Python does not run."""
    table = torch.nn.Parameter(torch.zeros(3, 2))
    optimizer = TouchedAdamW([table], lr=0.1, betas=(0.9, 0.999), weight_decay=0.5)
    step = optimizer.next_step(table)
    optimizer.state[table]["step"].add_(4)
    expected = torch.tensor([0.1 / (1 - 0.9**5), (1 - 0.999**5) ** 0.5, 1 - 0.1 * 0.5])
    torch.testing.assert_close(step.settings, expected)


@pytest.mark.gpu
@needs_a_gpu
def test_a_captured_decode_replays():
    layer = layer_on_gpu().eval()
    x = torch.randn(1, 64, device="cuda")
    with torch.no_grad():
        layer(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = layer(x)
        for _ in range(3):
            x.copy_(torch.randn_like(x))
            graph.replay()
            assert torch.equal(y, layer(x))


@pytest.mark.gpu
@needs_a_gpu
@pytest.mark.parametrize("inside", [False, True])
def test_a_captured_training_step_replays(inside):
    """A step inside backward takes the bias correction of its own replay."""
    captured = layer_on_gpu()
    if inside:
        captured.table_grad = TouchedAdamW(captured.tables(), lr=1e-2)
    plain = copy.deepcopy(captured)
    x = torch.randn(32, 64, device="cuda")

    def step(layer):
        layer.zero_grad(set_to_none=True)
        layer(x).square().mean().backward()
        if inside:
            layer.table_grad.step()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            step(captured)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(captured)
    for _ in range(2):
        step(plain)
    for _ in range(3):
        x.copy_(torch.randn_like(x))
        graph.replay()
        step(plain)
    for one, other in zip(captured.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)
        if other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.gpu
@needs_a_gpu
def test_compiles_with_cuda_graphs():
    """Forward and backward are captured, and replayed on other tokens."""
    layer = layer_on_gpu()
    compiled = torch.compile(layer, fullgraph=True, mode="reduce-overhead")
    counters.clear()
    for _ in range(4):
        x = torch.randn(32, 64, device="cuda")
        torch.compiler.cudagraph_mark_step_begin()
        found, wanted = compiled(x), layer(x)
        torch.testing.assert_close(found, wanted)
        gradients = (
            torch.autograd.grad(y.square().mean(), layer.tables()) for y in (found, wanted)
        )
        torch.testing.assert_close(*gradients)
    assert counters["inductor"]["cudagraph_skips"] == 0


@pytest.mark.gpu
@needs_a_gpu
def test_sparse_gradients_refuse_a_capture_on_the_device():
    layer = layer_on_gpu()
    layer.table_grad = "sparse"
    x = torch.randn(32, 64, device="cuda")
    layer(x).sum().backward()
    with (
        pytest.raises(RuntimeError, match="table_grad='sparse' cannot be captured"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        layer(x).sum().backward()
