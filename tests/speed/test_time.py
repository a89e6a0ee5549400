"""The timer, on a CPU and on a fake of torch.cuda that computes only when it is synchronised."""

import time
from statistics import median

import pytest

from suites.measure.time import CpuTimer, CudaTimer, warm_up


class FakeCuda:
    """A queue of work with known durations; an event has no time before `synchronize`."""

    def __init__(self) -> None:
        self.queue: list = []
        self.clock_ms = 0.0

    def Event(self, enable_timing: bool) -> "FakeEvent":
        assert enable_timing
        return FakeEvent(self)

    def launch(self, ms: float) -> None:
        self.queue.append(ms)

    def synchronize(self) -> None:
        for entry in self.queue:
            if isinstance(entry, FakeEvent):
                entry.at_ms = self.clock_ms
            else:
                self.clock_ms += entry
        self.queue.clear()


class FakeEvent:
    def __init__(self, device: FakeCuda) -> None:
        self.device, self.at_ms = device, None

    def record(self) -> None:
        self.device.queue.append(self)

    def elapsed_time(self, end: "FakeEvent") -> float:
        if self.at_ms is None or end.at_ms is None:
            raise RuntimeError("the device has not reached this event")
        return end.at_ms - self.at_ms


def test_device_time_needs_the_synchronisation():
    cuda = FakeCuda()
    timer = CudaTimer(cuda, flush=lambda: cuda.launch(7.0))
    seconds = timer.sample(lambda: cuda.launch(1.0), before=lambda: cuda.launch(40.0), count=3)
    assert seconds == pytest.approx([1e-3] * 3)


def test_the_flush_comes_last_before_the_timed_call():
    cuda, order = FakeCuda(), []
    timer = CudaTimer(cuda, flush=lambda: order.append("flush"))
    timer.sample(lambda: order.append("run"), before=lambda: order.append("before"), count=2)
    assert order == ["before", "flush", "run"] * 2


def test_a_warm_timer_does_not_flush():
    cuda, flushed = FakeCuda(), []
    CudaTimer(cuda, flush=lambda: flushed.append(1)).warm().sample(
        lambda: None, before=lambda: None, count=2
    )
    assert flushed == []


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_harness_adds_less_than_two_percent():
    seconds = CpuTimer().sample(lambda: spin(2e-3), before=lambda: None, count=40)
    # the lower half: a neighbour on the machine only ever adds
    assert 2e-3 <= median(sorted(seconds)[:20]) < 2e-3 * 1.02


def test_cpu_leaves_out_what_goes_before():
    seconds = CpuTimer().sample(lambda: None, before=lambda: spin(5e-3), count=5)
    assert median(seconds) < 1e-3


def test_warm_up_waits_for_a_slow_start_and_ends():
    durations = iter([0.5, 0.2, 0.1] + [0.01] * 100)
    calls = []

    class Scripted:
        def sample(self, run, before, count):
            calls.append(count)
            return [next(durations) for _ in range(count)]

    assert warm_up(Scripted(), None, None, at_least_s=0.0, at_most_s=5.0) == pytest.approx(0.01)
    assert len(calls) < 10
