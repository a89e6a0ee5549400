"""What an operation launches, counted on its binaries."""

import math
from collections import Counter

import torch
from torch import Tensor

from peer import functional
from suites.binary import sass
from suites.binary.case import Case
from suites.binary.launches import MOST_SHARED_BYTES, Launch, stand_in
from suites.errors import UserError

# Of a table whose size does not matter: nothing runs, and N decides no code.
EXPERTS = 4096
# What a kernel's constants call the rows that one trip of its loop takes.
ROWS_A_TRIP = ("ROWS", "UNROLL")


def launches(case: Case) -> list[Launch]:
    """What the operation of `case` launches on its target, in order."""
    found: list[Launch] = []
    stand_in(case.target, found.append)
    dtype = getattr(torch, case.dtype)
    T, P, D = case.tokens, case.heads * case.topk, case.dim
    trains = case.operation.endswith("backward")
    if case.operation.startswith("retrieve"):
        query = torch.zeros(T, case.heads, case.dim_key, dtype=dtype, requires_grad=trains)
        keys = torch.zeros(2, case.sub_keys, case.dim_key // 2, dtype=dtype, requires_grad=trains)
        y, _ = functional.retrieve(query, keys, case.topk, impl="triton")
        return gradient_of(y, found) if trains else found
    ids = torch.arange(T * P, dtype=torch.int32).view(T, P) % EXPERTS
    x, down, up = (torch.zeros(n, D, dtype=dtype) for n in (T, EXPERTS, EXPERTS))
    leaves = [t.requires_grad_(trains) for t in (x, torch.zeros(T, P, dtype=dtype), down, up)]
    x, scores, down, up = leaves
    y = functional.experts(x, ids, scores, down, up, table_grad=case.table_grad, impl="triton")
    return gradient_of(y, found) if trains else found


def gradient_of(y: Tensor, found: list[Launch]) -> list[Launch]:
    """What backward adds to the launches `found` so far."""
    forward = len(found)
    y.backward(torch.zeros_like(y))
    return found[forward:]


def counts(case: Case) -> dict[str, float | int]:
    """Counts of each kernel, named KERNEL.COUNT, and how many launches there are.

    Raises UserError in a process that interprets kernels.
    """
    import triton

    if triton.knobs.runtime.interpret:
        raise UserError("kernels are interpreted where TRITON_INTERPRET=1; unset it to count them")
    found = launches(case)
    metrics: dict[str, float | int] = {}
    seen: set[str] = set()
    variants: Counter[str] = Counter()
    for launch in found:
        if launch.kernel.hash not in seen:
            seen.add(launch.kernel.hash)
            variants[launch.name] += 1
            number = variants[launch.name]
            name = f"{launch.name}_{number}" if number > 1 else launch.name
            metrics |= {
                f"{name}.{count}": value for count, value in counted(launch, case.target).items()
            }
    return metrics | {"launches": len(found)}


def counted(launch: Launch, target: str) -> dict[str, float | int]:
    binary = sass.read(launch.kernel.asm["cubin"])
    loop = binary.row_loop()
    blocks = binary.resident_blocks(launch.warps, launch.shared_bytes, MOST_SHARED_BYTES[target])
    counts: dict[str, float | int] = {
        "registers": binary.registers,
        "stack_bytes": binary.stack_bytes,
        "shared_bytes": launch.shared_bytes,
        "warps": launch.warps,
        "resident_warps": blocks * launch.warps,
        "instructions": len(binary.instructions),
        "loop_instructions": len(loop),
        "loop_barriers": binary.barriers_in_loops(),
        "row_load_bytes": sass.row_load_bytes(loop or binary.instructions),
        "in_flight_bytes": sass.loaded_bytes(loop) * 32 * launch.warps * blocks,
    }
    rows = rows_a_trip(launch)
    if loop and rows:
        fewest, most = sass.trip(loop)
        counts["pair_instructions"] = fewest * launch.warps / rows
        counts["run_instructions"] = (most - fewest) * launch.warps / rows
    elif not rows and "K" in launch.constants:
        queries = launch.constants.get("QUERIES", 1)
        counts["query_instructions"] = binary.issued(launch.constants["K"]) * launch.warps / queries
    return counts


def rows_a_trip(launch: Launch) -> int:
    """Pairs that one trip of the loop takes, 0 for a kernel that says none."""
    named = [launch.constants[name] for name in ROWS_A_TRIP if name in launch.constants]
    return math.prod(named) if named else 0
