"""The kernels that numba compiles, read by a process once for all the jobs that it forks."""

import functools
from typing import Any

import torch

from peer import operators
from peer.choice import numba_installed


def uses_kernels(case: dict[str, Any]) -> bool:
    """Whether a run of this training case may call them: its layer has an `impl` to choose."""
    return numba_installed() and case["device"] == "cpu" and "impl" in case["options"]


@functools.cache
def load_kernels() -> None:
    """The smallest calls of a layer in evaluation and training; to import and to read takes a second.

    On one thread, since others would be missing in a fork, and without autograd, which refuses to work in a
    fork of a process that it has worked in. A job sets its own number of threads.
    """
    torch.set_num_threads(1)
    x, table, sub_keys = torch.ones(2, 4), torch.ones(4, 4), torch.ones(2, 2, 2)
    scores, ids = operators.retrieve(x.unsqueeze(1), sub_keys, 2, "raw", "native")
    pairs = x, ids.flatten(1), scores.flatten(1), table, table, None
    operators.experts(*pairs, None, None, "none", "dense", False, "native")
    route = operators.route(pairs[1], 4, False, "native")
    _, *hidden = operators.experts(*pairs, *route, "none", "dense", False, "native")
    operators.experts_backward(x, *pairs, *route, None, *hidden, "none", "native", True, True, True)
