"""Throttling and foreign processes, told by a fake NVML and a fake kernel."""

import os
import shutil
from types import SimpleNamespace

import pytest

from suites.measure import conditions
from suites.measure.conditions import CpuWatch, GpuWatch, Unwatched, watch
from suites.records.record import Record
from suites.speed.harness import bench as bench_module
from suites.speed.harness.bench import ATTEMPTS, Bench


class FakeNvml:
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, running: set[int]) -> None:
        self.running, self.bits = set(running), 0

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list:
        return [SimpleNamespace(pid=pid) for pid in self.running]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        return self.bits

    def nvmlDeviceGetClockInfo(self, handle: str, clock: int) -> int:
        return 1980

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return 40

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return 350_000


def watched(nvml: FakeNvml, own_pid: int) -> GpuWatch:
    return GpuWatch(nvml, "uuid", start_context=lambda: nvml.running.add(own_pid))


@pytest.mark.parametrize("own_pid", [os.getpid(), 4_000_001], ids=["same namespace", "container"])
def test_alone_and_unthrottled(own_pid):
    seen = watched(FakeNvml(set()), own_pid).conditions()
    assert seen.reasons == []
    assert seen.metrics["sm_clock_mhz"] == 1980
    assert seen.metrics["power_watts"] == 350


@pytest.mark.parametrize("when", ["before us", "after us"])
def test_another_process_is_named(when):
    nvml = FakeNvml({77} if when == "before us" else set())
    seen = watched(nvml, 4_000_001)
    nvml.running.add(77)
    assert seen.conditions().reasons == ["another process on the GPU: pid 77"]


def test_thermal_throttling_invalidates_and_a_power_cap_does_not():
    nvml = FakeNvml(set())
    watching = watched(nvml, 1)
    nvml.bits = 0x44
    seen = watching.conditions()
    assert seen.reasons == ["hardware thermal slowdown"]
    assert seen.metrics["power_capped"] == 1
    nvml.bits = 0x04
    assert watching.conditions().reasons == []


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Sets how long each thread of this process has waited, in seconds; time stands still until told."""
    now = iter([0.0, 2.0])
    monkeypatch.setattr(conditions.time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(conditions, "THREADS", tmp_path / "task")

    def waited(**threads: float) -> None:
        shutil.rmtree(tmp_path / "task", ignore_errors=True)
        for name, seconds in threads.items():
            (tmp_path / "task" / name).mkdir(parents=True)
            text = f"123456 {round(1e9 * seconds)} 7\n"
            (tmp_path / "task" / name / conditions.WAITS).write_text(text)

    return waited


@pytest.mark.parametrize(
    ("after", "percent"),
    [
        ({"a": 5.1, "b": 1.0}, 5),
        ({"a": 6.0, "b": 1.0}, 50),
        ({"a": 5.2, "b": 1.3}, 25),  # a call waits for whichever of its threads waits
        ({"b": 1.0}, 0),  # a thread has ended
    ],
)
def test_waiting_for_a_processor_invalidates(kernel, after, percent):
    kernel(a=5.0, b=1.0)
    watching = CpuWatch()
    kernel(**after)
    seen = watching.conditions()
    assert seen.metrics["cpu_wait_percent"] == pytest.approx(percent)
    said = [reason.partition(":")[0] for reason in seen.reasons]
    assert said == ([f"waited for a processor for {percent}% of the time"] if percent > 10 else [])


def test_processors_are_watched_where_the_kernel_tells(monkeypatch, tmp_path):
    (tmp_path / "schedstat").write_text("1 2 3")
    monkeypatch.setattr(conditions, "THREADS", tmp_path / "task")
    (tmp_path / "task").mkdir()
    assert isinstance(watch("cpu"), CpuWatch)
    (tmp_path / "schedstat").unlink()
    assert isinstance(watch("cpu"), Unwatched)
    assert watch("cpu").conditions().reasons == []


@pytest.mark.parametrize(("bad", "measured"), [(1, 2), (99, ATTEMPTS)])
def test_an_invalid_cell_is_measured_again_a_few_times(monkeypatch, tmp_path, bad, measured):
    calls = []

    def measure(cell, timer, roof, watch):
        calls.append(cell)
        if len(calls) <= bad:
            return Record(case={}, status="invalid", reason="throttled")
        return Record(case={}, status="ok")

    monkeypatch.setattr(bench_module, "measure", measure)
    record = Bench("tiny", "cpu", resume=False, results=tmp_path).attempt(None, None)
    assert len(calls) == measured
    assert record.status == ("ok" if measured > bad else "invalid")
