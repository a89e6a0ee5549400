"""From the counts of a case to the predicted time of its operation beside its floor, on an H200."""

from collections.abc import Iterable, Mapping
from typing import Any

from peer import costs, predicted
from peer.predicted import Experts, Retrieval, Work
from suites.binary.case import Case
from suites.records.record import Record

TARGET = "sm_90"  # an H200 is of this architecture
BYTES = {"bfloat16": 2, "float32": 4}


def prediction(case: Case, counts: Mapping[str, float | int]) -> dict[str, float]:
    """Microseconds; nothing for another GPU's binary, or where a kernel's work is not counted."""
    if case.target != TARGET:
        return {}
    try:
        steps = work(case, counts)
    except KeyError:
        return {}
    times = predicted.predicted_us(steps)
    return {"predicted_floor_us": floor_us(case)} | {
        f"predicted_{name}_us": time for name, time in times.items()
    }


def work(case: Case, counts: Mapping[str, float | int]) -> list[Work]:
    found = issued(counts)
    if case.operation == "forward":
        return predicted.forward(experts(case), found)
    if case.operation == "backward":
        return predicted.backward(experts(case), found, case.table_grad == "sparse")
    if case.operation == "retrieve":
        return predicted.retrieve(retrieval(case), found)
    return predicted.retrieve_backward(retrieval(case), found)


def floor_us(case: Case) -> float:
    """Compulsory bytes at the speed of a copy; of retrieval the two products that any needs, if longer."""
    if case.operation == "forward":
        call = experts(case)
        moved = costs.experts_bytes(
            call.tokens, call.pairs, call.dim, call.distinct, call.element_bytes
        )
        return predicted.floor_us(moved)
    if case.operation == "backward":
        call = experts(case)
        written = call.distinct if case.table_grad == "sparse" else call.experts
        moved = costs.experts_backward_bytes(
            call.tokens, call.pairs, call.dim, call.distinct, written, call.element_bytes
        )
        return predicted.floor_us(moved)
    queries = retrieval(case)
    moved = costs.retrieve_bytes(
        case.tokens, case.heads, case.topk, case.dim_key, case.sub_keys, BYTES[case.dtype]
    )
    if case.operation == "retrieve":
        return predicted.floor_us(moved, queries.flops)
    return predicted.floor_us(2 * moved)


def experts(case: Case) -> Experts:
    pairs, count = case.tokens * case.heads * case.topk, case.sub_keys**2
    distinct = costs.distinct_experts(pairs, count)
    return Experts(case.tokens, pairs, case.dim, count, distinct, BYTES[case.dtype])


def retrieval(case: Case) -> Retrieval:
    queries = case.tokens * case.heads
    return Retrieval(queries, case.sub_keys, case.dim_key, case.topk, BYTES[case.dtype])


def issued(counts: Mapping[str, float | int]) -> dict[str, float]:
    """Instructions by `KERNEL.pair`, `.run` or `.query`, as `peer.predicted` takes them."""
    return {
        name.removesuffix("_instructions"): float(value)
        for name, value in counts.items()
        if name.endswith(("pair_instructions", "run_instructions", "query_instructions"))
    }


def counted_csv(records: Iterable[Record]) -> str:
    """What `peer.predicted.counted` reads, of the cases on an H200."""
    lines = [
        "# Instructions of a warp in the binaries for sm_90, bfloat16 rows of `columns` numbers."
    ]
    lines += ["# From: python -m suites run kernels --profile widths"]
    lines += ["operation,columns,count,instructions"]
    for record in records:
        case, metrics = Case.model_validate(record.case), dict[str, Any](record.metrics)
        if case.target == TARGET and case.table_grad == "dense":
            columns = case.dim_key if case.operation.startswith("retrieve") else case.dim
            lines += [
                f"{case.operation},{columns},{name},{value:g}"
                for name, value in issued(metrics).items()
                if value
            ]
    return "\n".join(lines) + "\n"
