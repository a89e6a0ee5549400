"""The bytes that there are, and those that a call asks of torch's allocator, in a pass after timing.

Of a call, on a GPU: the caching allocator's own peak. On a CPU: the running sum of the allocations and frees
that torch's profiler sees, exact and repeatable. Left out on both: weights and inputs that exist
before the call, and what libraries (cuBLAS, oneDNN, MKL) allocate on their own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from peer.memory import left_bytes


@dataclass(frozen=True)
class Allocation:
    """Above what was allocated before: the peak, and what is still held once the call returned."""

    peak_bytes: int
    kept_bytes: int
    reserved_bytes: int | None = None


def available_bytes(device: str) -> int:
    """Nine tenths of what is free, so that the machine is not driven into swapping, nor a container
    to its limit, where it is killed."""
    if device == "cuda":
        from torch import cuda

        return int(0.9 * cuda.mem_get_info()[0])
    free = psutil.virtual_memory().available
    left = left_bytes()
    return int(0.9 * max(0, free if left is None else min(free, left)))


def allocation(device: str, run: Callable[[], Any]) -> Allocation:
    """Calls `run` once and holds its result until the count is taken."""
    return on_cuda(run) if device == "cuda" else on_cpu(run)


def on_cuda(run: Callable[[], Any]) -> Allocation:
    from torch import cuda

    cuda.synchronize()
    cuda.reset_peak_memory_stats()
    before = cuda.memory_allocated()
    result = run()
    cuda.synchronize()
    counted = Allocation(
        peak_bytes=cuda.max_memory_allocated() - before,
        kept_bytes=cuda.memory_allocated() - before,
        reserved_bytes=cuda.max_memory_reserved(),
    )
    del result
    return counted


def on_cpu(run: Callable[[], Any]) -> Allocation:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = run()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    del result
    return Allocation(peak_bytes=peak, kept_bytes=now)
