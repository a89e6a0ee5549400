"""Seconds per call: CUDA events behind a flushed L2 on a GPU, perf_counter on a CPU.

Leaves out what runs before the timed region: the flush, gradients set to None, a graph rebuilt for
its backward. On a GPU the time is the device's, from the first to the last kernel of the call;
where launches cost more than kernels it shows the launches. On a CPU caches are left as they are.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any, Protocol

Run = Callable[[], Any]


class Timer(Protocol):
    def sample(self, run: Run, before: Run, count: int) -> list[float]:
        """Seconds of `count` calls of `run`; `before` goes ahead of each, untimed."""


class CpuTimer:
    def sample(self, run: Run, before: Run, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            before()
            start = time.perf_counter()
            result = run()
            seconds.append(time.perf_counter() - start)
            del result
        return seconds


class CudaTimer:
    """`triton.testing.do_bench` with a `before`: all calls are queued, then one synchronisation.

    `device` is torch.cuda; `flush` overwrites L2, so that every call begins with cold caches.
    """

    def __init__(self, device: Any, flush: Run) -> None:
        self.device, self.flush = device, flush

    def warm(self) -> "CudaTimer":
        """The same without the flush: caches as the call before left them."""
        return CudaTimer(self.device, lambda: None)

    def sample(self, run: Run, before: Run, count: int) -> list[float]:
        pairs = []
        for _ in range(count):
            before()
            self.flush()
            start, end = (self.device.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            pairs.append((start, end))
        self.device.synchronize()
        return [start.elapsed_time(end) / 1000 for start, end in pairs]


def timer(device: str) -> Timer:
    """The timer of "cpu" or "cuda"."""
    if device == "cpu":
        return CpuTimer()
    import torch

    return CudaTimer(torch.cuda, cache_flush())


def cache_flush() -> Run:
    """Overwrites four times the L2, and keeps the device busy while the host queues the call."""
    import torch

    l2_bytes = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    buffer = torch.empty(max(4 * l2_bytes, 2**28), dtype=torch.int8, device="cuda")
    return buffer.zero_


def warm_up(timer: Timer, run: Run, before: Run, at_least_s: float, at_most_s: float) -> float:
    """Calls until two windows of three agree within 5 %; returns seconds per call."""
    began = time.perf_counter()
    latest = timer.sample(run, before, 1)[0]
    previous = float("inf")
    while (spent := time.perf_counter() - began) < at_most_s:
        if spent >= at_least_s and abs(latest - previous) <= 0.05 * latest:
            break
        previous, latest = latest, median(timer.sample(run, before, 3))
    return latest
