"""The kernels that an exact gate counts: what the paper's router and experts launch at d = 256.

Compiled for one GPU on both sides, where triton is installed; no GPU is needed. Compiled again is only
what HEAD changed. A count is of the binary, so a compiler's new version changes both sides alike.
"""

import importlib.util
from collections.abc import Mapping

from suites.binary.case import Case, Operation

OPERATIONS: tuple[Operation, ...] = ("forward", "backward", "retrieve", "retrieve_backward")
CASES = {
    f"kernels {operation}": Case(operation=operation, target="sm_90", dim=256, tokens=2048)
    for operation in OPERATIONS
}
# What costs time on a GPU. Registers and shared memory do where they leave fewer warps resident.
JUDGED = (
    "launches",
    "stack_bytes",
    "row_load_bytes",
    "loop_barriers",
    "loop_instructions",
    "pair_instructions",
    "run_instructions",
    "query_instructions",
    "resident_warps",
)
NOT_COUNTED = "kernels are not counted: triton is not installed; pip install 'peer-suite[triton]'"


def compiler_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def judged(metrics: Mapping[str, float]) -> dict[str, float]:
    """By the pair where a trip of the loop takes several, so that unrolling is no rise."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if name.endswith(JUDGED)
        and not (name.endswith("loop_instructions") and name.replace("loop", "pair") in metrics)
    }
