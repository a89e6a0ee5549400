"""Executes a launch on the CPU: its tensors become the machine's memory and are changed in place."""

import functools

from torch import Tensor

from suites.binary.launches import Launch
from tests.peer.machine.grid import run
from tests.peer.machine.memory import Global
from tests.peer.machine.ptx import parse

program = functools.lru_cache(maxsize=None)(parse)


def execute(launch: Launch) -> int:
    """How many instructions it took, one counted for all lanes that execute it together."""
    if launch.grid[1:] != (1, 1):
        raise ValueError(f"the machine has grids along x only; got {launch.grid}")
    memory = Global()
    kernel = program(launch.kernel.asm["ptx"])
    values = [
        memory.add(name, value) if isinstance(value, Tensor) else value
        for name, value in launch.arguments.items()
    ]
    # Triton adds two pointers to scratch memory, which these kernels do not use.
    values += [0] * (len(kernel.parameters) - len(values))
    arguments = dict(zip(kernel.parameters, values, strict=True))
    return run(kernel, arguments, memory, launch.shared_bytes, 32 * launch.warps, launch.grid[0])
