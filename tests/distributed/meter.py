"""Counts what collectives send, at the operators that carry them out."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

c10d = torch.ops.c10d


def of(argument: Any) -> int:
    tensors = [argument] if isinstance(argument, Tensor) else argument
    return sum(tensor.nbytes for tensor in tensors)


# Bytes that a ring sends, times R / (R − 1): of the whole, which is the first or the second argument.
SENT: dict[Any, Callable[[Any, Any], int]] = {
    c10d._allgather_base_.default: lambda whole, part: of(whole),
    c10d._reduce_scatter_base_.default: lambda part, whole: of(whole),
    c10d.alltoall_base_.default: lambda received, sent: of(sent),
    c10d.allreduce_.default: lambda tensors, _: 2 * of(tensors),
}


class Meter(TorchDispatchMode):
    """Bytes that this process sends within the block; an operator of c10d that nobody priced raises."""

    def __init__(self) -> None:
        super().__init__()
        self.sent_bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace in ("c10d", "_c10d_functional"):
            ranks = dist.get_world_size()
            whole = SENT[function](args[0], args[1]) * (ranks - 1)
            assert whole % ranks == 0
            self.sent_bytes += whole // ranks
        return function(*args, **kwargs or {})
