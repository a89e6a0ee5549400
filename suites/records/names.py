"""A short name for each cell. That of a timed cell, after its suite's, is what `-k` selects it by."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import JsonValue

from suites.records.cells import Cell, flat

CONTROLS = ("copy", "gemm")  # hold no code of ours: when they move, the machine moved
# Quantity made equal → the word for it; none is a phase's, so that -k can tell them apart.
EQUAL = {
    "forward_flops": "equal_flops",
    "bytes_moved": "equal_bytes",
    "active_parameters": "equal_active",
}


def labels(found: Mapping[str, Cell]) -> dict[str, str]:
    """Names of timed cells, others made of the layer and of the fields in which the cells differ."""
    timed = {key: timed_name(cell.case) for key, cell in found.items() if "phase" in cell.case}
    if len(timed) == len(found) == len(set(timed.values())):
        return timed
    flattened = {key: flat(cell.case) for key, cell in found.items()}
    varying = differing(flattened.values())
    return {
        key: " ".join(short(name, fields[name]) for name in varying if name in fields)
        or str(fields.get("layer", "all"))
        for key, fields in flattened.items()
    }


def differing(cases: Iterable[dict[str, JsonValue]]) -> list[str]:
    """Fields of flat cases that have several values."""
    cases = list(cases)
    return [
        name
        for name in sorted({name for fields in cases for name in fields})
        if len({str(fields[name]) for fields in cases if name in fields}) > 1
    ]


def short(name: str, value: JsonValue) -> str:
    """`layer` is said without its name, other fields without their path."""
    return str(value) if name == "layer" else f"{name.rsplit('.', 1)[-1]}={value}"


def row_words(case: Mapping[str, Any]) -> list[str]:
    """What is timed, without its sizes: layer, implementation, compiled or not."""
    parts = [case["layer"], case["options"].get("impl"), "compiled" if case["compiled"] else None]
    return [part for part in parts if part]


def timed_name(case: Mapping[str, Any]) -> str:
    """Unique within a profile of a speed suite; a control is named by its dtype alone."""
    row = "-".join(row_words(case))
    if case["layer"] in CONTROLS:
        return f"control-{row}-{case['dtype']}"
    side = math.isqrt(case["experts"])
    matched = f"-{EQUAL[case['matched']]}" if case["matched"] else ""
    return (
        f"{row}-{case['phase']}-T{case['tokens']}-D{case['dim']}-N{side}x{side}"
        f"-hk{case['active_experts']}-{case['dtype']}-{case['routing']}{matched}"
    )
