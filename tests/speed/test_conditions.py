"""Throttling and foreign processes, told by a fake NVML."""

import os
from types import SimpleNamespace

import pytest

from suites.measure.conditions import GpuWatch
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
    watch = watched(nvml, 4_000_001)
    nvml.running.add(77)
    assert watch.conditions().reasons == ["another process on the GPU: pid 77"]


def test_thermal_throttling_invalidates_and_a_power_cap_does_not():
    nvml = FakeNvml(set())
    watch = watched(nvml, 1)
    nvml.bits = 0x44
    seen = watch.conditions()
    assert seen.reasons == ["hardware thermal slowdown"]
    assert seen.metrics["power_capped"] == 1
    nvml.bits = 0x04
    assert watch.conditions().reasons == []


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
