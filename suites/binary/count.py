"""Records of what an operation launches, counted on its binaries."""

import math
from collections import Counter
from typing import Any

import torch

from peer import costs, functional
from suites.binary import predict, sass
from suites.binary.case import Case
from suites.binary.launches import MOST_SHARED_BYTES, Launch, stand_in
from suites.errors import UserError
from suites.records.record import Record

# Of a table whose size does not matter: nothing runs, and N decides no code.
EXPERTS = 4096
# What a kernel's constants call the rows that one trip of its loop takes.
ROWS_A_TRIP = ("ROWS", "UNROLL")
# These work per piece of a long run or per token, which is little beside the pairs.
SMALL = ("combine_kernel", "add_shares_kernel")


def launches(case: Case) -> list[Launch]:
    """What the operation of `case` launches on its target, in order."""
    found: list[Launch] = []
    stand_in(case.target, found.append)
    dtype = getattr(torch, case.dtype)
    T, P, D = case.tokens, case.heads * case.topk, case.dim
    if case.operation == "retrieve":
        query = torch.zeros(T, case.heads, case.dim_key, dtype=dtype)
        keys = torch.zeros(2, case.sub_keys, case.dim_key // 2, dtype=dtype)
        functional.retrieve(query, keys, case.topk, impl="triton")
        return found
    trains = case.operation == "backward"
    ids = torch.arange(T * P, dtype=torch.int32).view(T, P) % EXPERTS
    x, down, up = (torch.zeros(n, D, dtype=dtype) for n in (T, EXPERTS, EXPERTS))
    leaves = [t.requires_grad_(trains) for t in (x, torch.zeros(T, P, dtype=dtype), down, up)]
    x, scores, down, up = leaves
    y = functional.experts(x, ids, scores, down, up, table_grad=case.table_grad, impl="triton")
    if trains:
        forward = len(found)
        y.backward(torch.zeros_like(y))
        found = found[forward:]
    return found


def record(case: Case) -> Record:
    """Counts of each kernel, named KERNEL.COUNT, and the operation's predicted time on an H200."""
    import triton

    if triton.knobs.runtime.interpret:
        raise UserError("kernels are interpreted where TRITON_INTERPRET=1; unset it to count them")
    metrics: dict[str, float | int | str | None] = {}
    found = launches(case)
    seen: dict[str, str] = {}
    variants: Counter[str] = Counter()
    for launch in found:
        if launch.kernel.hash not in seen:
            variants[launch.name] += 1
            number = variants[launch.name]
            seen[launch.kernel.hash] = f"{launch.name}_{number}" if number > 1 else launch.name
            name = seen[launch.kernel.hash]
            counts = counted(launch, case.target)
            metrics |= {f"{name}.{count}": value for count, value in counts.items()}
    metrics["launches"] = len(found)
    if case.target == "sm_90" and case.operation != "retrieve":
        metrics |= prediction(
            case, [(launch, seen[launch.kernel.hash]) for launch in found], metrics
        )
    return Record(case=case.model_dump(mode="json"), status="ok", metrics=metrics)


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
    if loop and (rows := rows_a_trip(launch)):
        counts["pair_instructions"] = len(loop) * launch.warps / rows
    return counts


def rows_a_trip(launch: Launch) -> int:
    """Pairs that one trip of the loop takes, 0 for a kernel that says none."""
    named = [launch.constants[name] for name in ROWS_A_TRIP if name in launch.constants]
    return math.prod(named) if named else 0


def prediction(case: Case, found: list[tuple[Launch, str]], metrics: dict) -> dict[str, float]:
    """Microseconds of the operation beside its floor; nothing where a kernel's work is not counted
    per pair.
    """
    pairs = case.tokens * case.heads * case.topk
    per_pair: list[Any] = [
        metrics.get(f"{name}.pair_instructions")
        for launch, name in found
        if launch.name not in SMALL
    ]
    if None in per_pair:
        return {}
    size = 2 if case.dtype == "bfloat16" else 4
    experts = case.sub_keys**2
    distinct = costs.distinct_experts(pairs, experts)
    rows_bytes = 2 * pairs * case.dim * size  # of two tables, or of tokens and gradients
    if case.operation == "forward":
        floor = costs.experts_bytes(case.tokens, pairs, case.dim, distinct, size)
        moved, cached = floor + rows_bytes - 2 * distinct * case.dim * size, 0.0
    else:
        written = experts if case.table_grad == "dense" else distinct
        floor = costs.experts_backward_bytes(case.tokens, pairs, case.dim, distinct, written, size)
        moved, cached = floor, rows_bytes
    times = predict.predicted_us(sum(per_pair) * pairs, moved, cached, len(found))
    floor_us = predict.floor_us(floor)
    return {"predicted_floor_us": floor_us} | {
        f"predicted_{name}_us": time for name, time in times.items()
    }
