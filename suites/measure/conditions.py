"""Whether a device was ours and unthrottled while something was timed. Nothing is set.

A GPU is asked by NVML; of processors the kernel tells how long our threads had to wait for one.
"""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suites.errors import UserError

# nvml.h, nvmlClocksEventReasons: what slows a clock for the board's sake. A power cap (0x4) is how
# a datacenter card runs a large GEMM, so it is reported and does not invalidate.
THROTTLED = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
POWER_CAP = 0x04
# Linux, Documentation/scheduler/sched-stats.rst: nanoseconds on a processor, nanoseconds ready to run
# without one, turns.
THREADS, WAITS = Path("/proc/self/task"), "schedstat"
WAITED_AT_MOST = 0.10  # of the time; a median stands as long as few samples are disturbed


@dataclass
class Conditions:
    """What was seen over one measurement; `reasons` is empty when the numbers may be used."""

    reasons: list[str] = field(default_factory=list)
    metrics: dict[str, float | int | str | None] = field(default_factory=dict)


class Unwatched:
    """A system that does not say who had its processors: the last minute's load is recorded."""

    def begin(self) -> None: ...

    def conditions(self) -> Conditions:
        return Conditions(metrics={"load_average": os.getloadavg()[0]})


class CpuWatch:
    """How long our threads were ready to run and others had the processors, on Linux."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.began_s, self.before_s = time.perf_counter(), waited_s()

    def conditions(self) -> Conditions:
        """Since `begin`."""
        passed_s = time.perf_counter() - self.began_s
        waited = max(0.0, waited_s() - self.before_s) / passed_s
        reasons = []
        if waited > WAITED_AT_MOST:
            reasons.append(
                f"waited for a processor for {waited:.0%} of the time: other processes had it, or a "
                "quota was spent"
            )
        load = os.getloadavg()[0]
        return Conditions(reasons, {"load_average": load, "cpu_wait_percent": 100 * waited})


def waited_s() -> float:
    """Of all threads of this process since each began."""
    waits_ns = 0
    for thread in THREADS.iterdir():
        try:
            waits_ns += int((thread / WAITS).read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):  # it ended
            continue
    return waits_ns / 1e9


class GpuWatch:
    """Looks at one GPU through `nvml` (the module pynvml, or one that answers like it).

    Inside a container NVML may name processes by pids of the host, so our own process is the one
    that appears when `start_context` makes the CUDA context; whatever ran before is foreign.
    """

    def __init__(self, nvml: Any, uuid: str, start_context: Any) -> None:
        nvml.nvmlInit()
        self.nvml = nvml
        self.handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        before = self.processes() - {os.getpid()}
        start_context()
        self.ours = self.processes() - before

    def processes(self) -> set[int]:
        return {p.pid for p in self.nvml.nvmlDeviceGetComputeRunningProcesses(self.handle)}

    def begin(self) -> None: ...  # NVML tells the present

    def conditions(self) -> Conditions:
        """The state right now: ask after the queue was filled or drained, before the GPU idles."""
        nvml, handle = self.nvml, self.handle
        bits = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        reasons = [name for bit, name in THROTTLED.items() if bits & bit]
        if foreign := self.processes() - self.ours:
            reasons.append(
                f"another process on the GPU: pid {', '.join(map(str, sorted(foreign)))}"
            )
        return Conditions(
            reasons,
            {
                "sm_clock_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
                "memory_clock_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
                "temperature_celsius": nvml.nvmlDeviceGetTemperature(
                    handle, nvml.NVML_TEMPERATURE_GPU
                ),
                "power_watts": nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
                "power_capped": int(bool(bits & POWER_CAP)),
            },
        )


def watch(device: str) -> Unwatched | CpuWatch | GpuWatch:
    """Raises UserError on a GPU without nvidia-ml-py: unwatched times cannot be trusted."""
    if device == "cpu":
        return CpuWatch() if (THREADS.parent / WAITS).exists() else Unwatched()
    import torch

    try:
        import pynvml
    except ImportError as error:
        raise UserError(
            "timing on a GPU needs nvidia-ml-py, to see throttling and other processes: "
            "pip install --editable '.[suites,gpu]'"
        ) from error
    uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    return GpuWatch(pynvml, uuid, lambda: torch.zeros(1, device="cuda"))
