"""Every Triton launch of a call, compiled as its launcher would on a GPU, where there is none.

Triton compiles at a launch and for its arguments: an integer equal to 1 becomes a constant, and
integers and pointers divisible by 16 are marked so, which decides how wide the rows are loaded. Only
a launch on tensors therefore says which code a GPU would run. `Device` is a driver for one such GPU;
the tensors stay on the CPU, and what a launch does is up to `on_launch`.

A process either interprets kernels or compiles them: TRITON_INTERPRET must not be 1 when they are
imported.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime.driver import driver

from peer import choice

# Shared memory a block may have, bytes: CUDA C++ Programming Guide, technical specifications by
# compute capability; CDNA 3 ISA, local data share.
MOST_SHARED_BYTES = {"sm_80": 163 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024}
MOST_SHARED_BYTES |= {"gfx942": 64 * 1024}


@dataclass(frozen=True, eq=False)
class Launch:
    """A compiled kernel, its grid, and the arguments its binary takes, tensors or numbers, in order.

    `constants` are those compiled into it: constexprs, and integers equal to 1.
    """

    kernel: Any
    grid: tuple[int, int, int]
    arguments: dict[str, Tensor | int | float]
    constants: dict[str, Any]

    @property
    def name(self) -> str:
        return self.kernel.metadata.name

    @property
    def blocks(self) -> int:
        return math.prod(self.grid)

    @property
    def warps(self) -> int:
        return self.kernel.metadata.num_warps

    @property
    def shared_bytes(self) -> int:
        return self.kernel.metadata.shared


class Device(DriverBase):
    """A GPU of the architecture `target` whose launches call `on_launch`."""

    def __init__(self, target: str, on_launch: Callable[[Launch], None]) -> None:
        if target not in MOST_SHARED_BYTES:
            raise ValueError(
                f"target must be one of {', '.join(MOST_SHARED_BYTES)}; got {target!r}"
            )
        self.target = target
        self.on_launch = on_launch
        self.utils = self

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        """What Triton calls at each launch of one compiled kernel."""

        def launch(x, y, z, stream, module, packed, launch_metadata, enter, leave, *values) -> None:
            compiled = source.fn.device_caches[self.target][0].values()
            kernel = next(kernel for kernel in compiled if kernel.src is source)
            arguments: dict[str, Any] = {}
            constants: dict[str, Any] = {}
            for (name, kind), value in zip(source.signature.items(), values, strict=True):
                (constants if kind == "constexpr" else arguments)[name] = value
            self.on_launch(Launch(kernel, (x, y, z), arguments, constants))

        return launch

    def load_binary(self, name: str, binary: bytes, shared: int, device: str) -> tuple:
        """No module, no handle, no registers, no spills, and as many threads as a block may have."""
        return None, None, 0, 0, 1024

    def get_device_properties(self, device: str) -> dict[str, int]:
        return {"max_shared_mem": MOST_SHARED_BYTES[self.target]}

    def get_current_target(self) -> GPUTarget:
        if self.target.startswith("gfx"):
            return GPUTarget("hip", self.target, 64)
        return GPUTarget("cuda", int(self.target.removeprefix("sm_")), 32)

    def get_current_device(self) -> str:
        return self.target  # Triton keeps its compiled kernels by device

    def get_current_stream(self, device: str) -> int:
        return 0

    @classmethod
    def is_active(cls) -> bool:
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_benchmarker(self):
        raise NotImplementedError("nothing runs here, so nothing is timed")


def stand_in(target: str, on_launch: Callable[[Launch], None]) -> None:
    """From here on impl="triton" takes tensors on the CPU, and every launch goes to `on_launch`.

    For the rest of the process: where there is no GPU there is no driver to go back to.
    """
    if triton.knobs.runtime.interpret:
        raise RuntimeError(
            "TRITON_INTERPRET=1 interprets kernels, and nothing is compiled; start a process with "
            "TRITON_INTERPRET=0"
        )
    choice.check_triton = lambda *_: None
    driver.set_active(Device(target, on_launch))
