"""As many threads as torch uses, each with its own run of experts."""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor


def cuts(bounds: Tensor, names: Tensor) -> list[int]:
    """Cuts `names` into one part per thread, with about as many pairs each."""
    threads = torch.get_num_threads()
    pairs = int(bounds[-1])
    if threads == 1 or pairs < 2048:  # waking a thread costs more than its share
        return [0, names.shape[0]]
    goals = torch.arange(1, threads, dtype=bounds.dtype) * (pairs // threads)
    starts = bounds.index_select(0, names)
    return [0, *torch.searchsorted(starts, goals).tolist(), names.shape[0]]


def in_threads(work: Callable[[int, int], None], parts: list[int]) -> None:
    """work(low, high) of every part; the first in this thread, and no lock is held meanwhile."""
    first, *rest = zip(parts[:-1], parts[1:], strict=True)
    waiting = [pool(os.getpid(), len(parts)).submit(work, *part) for part in rest]
    work(*first)
    for one in waiting:
        one.result()


@functools.cache
def pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads do not survive a fork: a process has its own."""
    return ThreadPoolExecutor(threads, thread_name_prefix="peer")
