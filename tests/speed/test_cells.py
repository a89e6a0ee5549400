"""What lies inside the timed region, per phase, and what comes of cells that fail."""

import builtins
import weakref

import pytest
import torch

from suites.measure.conditions import Unwatched
from suites.measure.time import CpuTimer
from suites.speed.cells.demand import Roof
from suites.speed.harness import samples
from suites.speed.harness.estimate import estimate
from suites.speed.harness.prepared import Prepared, prepare

ROOF = Roof(bytes_per_s=1e10, flops_per_s=1e11)


class Tracing:
    """A timer that notes what ran when."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def sample(self, run, before, count):
        for _ in range(count):
            self.log.append("before:")
            before()
            self.log.append("run:")
            run()
        return [1e-3] * count


def traced(cell, phase: str) -> tuple[Tracing, Prepared]:
    prepared = prepare(cell.model_copy(update={"phase": phase}), tracing := Tracing())
    layer = prepared.subject.module
    layer.register_forward_hook(lambda *_: tracing.log.append("forward"))
    weight = next(layer.parameters())
    if weight.requires_grad:
        weight.register_hook(lambda _: tracing.log.append("backward"))
    return tracing, prepared


@pytest.mark.parametrize(
    ("phase", "log"),
    [
        ("inference", ["before:", "run:", "forward"]),
        ("forward", ["before:", "run:", "forward"]),
        ("backward", ["before:", "forward", "run:", "backward"]),
        ("training_step", ["before:", "run:", "forward", "backward"]),
    ],
)
def test_what_is_timed(cell, phase, log):
    tracing, prepared = traced(cell, phase)
    prepared.sample(2)
    assert tracing.log == log * 2


def test_inference_keeps_no_graph_and_forward_does(cell):
    for phase, graph in (("inference", False), ("forward", True)):
        output = prepare(cell.model_copy(update={"phase": phase})).run()
        assert (output.grad_fn is not None) == graph


def test_gradients_are_none_before_every_sample(cell):
    prepared = prepare(cell.model_copy(update={"phase": "backward"}))
    prepared.sample(1)
    once = prepared.leaves[1].grad.clone()
    prepared.sample(3)
    torch.testing.assert_close(prepared.leaves[1].grad, once)


def test_training_steps_leave_the_parameters_as_they_were(cell):
    prepared = prepare(cell.model_copy(update={"phase": "training_step"}))
    weights = [p.clone() for p in prepared.subject.module.parameters()]
    prepared.sample(3)
    assert all(
        torch.equal(a, b)
        for a, b in zip(weights, prepared.subject.module.parameters(), strict=True)
    )


def test_a_record_is_complete(cell):
    record = samples.measure(cell, CpuTimer(), ROOF, Unwatched())
    assert record.status == "ok"
    metrics, seconds = record.metrics, record.series["seconds"]
    assert len(seconds) >= samples.FEWEST
    assert metrics["quartile1_s"] <= metrics["median_s"] <= metrics["quartile3_s"]
    assert metrics["flops"] == metrics["forward_flops"] == 8 * 4 * 16 * 32
    assert metrics["bytes_moved"] == 4 * (2 * 16 * 32 + 2 * 8 * 16)
    assert metrics["tokens_per_s"] == pytest.approx(8 / metrics["median_s"])
    assert metrics["time_over_floor"] == pytest.approx(metrics["median_s"] / metrics["floor_s"])
    # kept for backward: pre- and post-activations (8, 32); the input exists before
    assert metrics["activation_bytes"] == 2 * 8 * 32 * 4
    assert metrics["peak_bytes"] >= metrics["activation_bytes"]


@pytest.mark.parametrize("layer", ["experts", "bag", "retrieve", "embedding_bag"])
def test_operations_match_their_float64_reference(cell, layer):
    operation = cell.model_copy(
        update={
            "layer": layer,
            "options": {} if layer == "embedding_bag" else {"impl": "auto"},
            "active_experts": 32,
            "matched": None,
        }
    )
    record = samples.measure(operation, CpuTimer(), ROOF, Unwatched())
    assert record.status == "ok", record.reason
    assert 0 < record.metrics["relative_error"] < 1e-5


def test_a_missing_rival_is_a_named_gap(cell, monkeypatch):
    real = builtins.__import__

    def without_rival(name, *rest, **kwargs):
        if name == "PEER_pytorch":
            raise ImportError(name)
        return real(name, *rest, **kwargs)

    monkeypatch.setattr("importlib.import_module", without_rival)
    rival = cell.model_copy(
        update={"layer": "peer_pytorch", "options": {"heads": 2, "topk": 2}, "active_experts": 4}
    )
    record = samples.measure(rival, CpuTimer(), ROOF, Unwatched())
    assert record.status == "skipped"
    assert "PEER-pytorch is not installed" in record.reason


def test_too_large_is_predicted_and_nothing_is_built(cell, monkeypatch):
    monkeypatch.setattr(samples, "prepare", lambda *_: pytest.fail("built"))
    large = cell.model_copy(update={"layer": "peer", "experts": 2**40, "options": {}})
    record = samples.measure(large, CpuTimer(), ROOF, Unwatched())
    assert record.status == "oom"
    assert record.reason.startswith("predicted: needs at least")


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "oom"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 bytes"), "oom"),
        (RuntimeError("shapes do not fit\nand more"), "error"),
    ],
)
def test_a_failure_is_recorded_and_the_next_cell_runs(cell, monkeypatch, raised, status):
    def fail(*_):
        raise raised

    with monkeypatch.context() as patched:
        patched.setattr(samples, "prepare", fail)
        record = samples.measure(cell, CpuTimer(), ROOF, Unwatched())
    assert record.status == status
    assert record.reason == f"{type(raised).__name__}: {str(raised).splitlines()[0]}"
    assert samples.measure(cell, CpuTimer(), ROOF, Unwatched()).status == "ok"


def test_nothing_of_a_failed_cell_is_held_when_memory_is_released(cell, monkeypatch):
    class Tables:
        pass

    held, alive = [], []

    def fail(*_):
        tables = Tables()
        held.append(weakref.ref(tables))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(samples, "prepare", fail)
    monkeypatch.setattr(samples, "release", lambda _: alive.append(held[0]() is not None))
    samples.measure(cell, CpuTimer(), ROOF, Unwatched())
    assert alive == [False]


def test_predicted_memory_is_no_more_than_is_needed(cell):
    """A prediction that exceeds what runs would refuse cells that fit."""
    for phase in ("forward", "backward", "training_step"):
        sparse = cell.model_copy(
            update={
                "layer": "peer",
                "dim": 32,
                "experts": 128**2,
                "options": {"experts": 128**2, "heads": 8, "topk": 16},
                "active_experts": 128,
                "tokens": 64,
                "phase": phase,
            }
        )
        prepared = prepare(sparse)
        parameters = sum(p.nbytes for p in prepared.subject.module.parameters())
        prepared.sample(1)
        peak = samples.memory(prepared)["peak_bytes"]
        optimizer = 2 * parameters if phase == "training_step" else 0
        assert estimate(sparse).bytes <= 1.1 * (parameters + optimizer + peak)
