"""Register bits as numbers and back, by PTX type: s32, u64, b16, f32, bf16, f16x2, pred."""

import re

import numpy as np

from tests.peer.machine.ptx import Unsupported

UNSIGNED = {1: bool, 8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
SIGNED = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}


def bits(kind: str) -> int:
    """The width of one value."""
    if kind == "pred":
        return 1
    found = re.fullmatch(r"(?:[sub]|b?f)(8|16|32|64)(x2)?", kind)
    if found is None:
        raise Unsupported(f"type {kind}")
    return int(found[1]) * (2 if found[2] else 1)


def is_float(kind: str) -> bool:
    return kind.startswith(("f", "bf"))


def decode(kind: str, raw: np.ndarray) -> np.ndarray:
    """Unsigned bits as integers or floats; a packed pair adds a last dimension, low half first."""
    if kind.endswith("x2"):
        return decode(kind[:-2], raw.view(np.uint16)).reshape(-1, 2)
    if kind == "bf16":
        return (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if kind == "f16":
        return raw.view(np.float16).astype(np.float32)
    if is_float(kind):
        return raw.view({32: np.float32, 64: np.float64}[bits(kind)])
    return raw.view(SIGNED[bits(kind)]) if kind.startswith("s") else raw


def encode(kind: str, values: np.ndarray) -> np.ndarray:
    """The bits of values, floats rounded to the nearest."""
    if kind.endswith("x2"):
        return np.ascontiguousarray(encode(kind[:-2], values)).view(np.uint32).reshape(-1)
    if kind == "bf16":
        raw = values.astype(np.float32).view(np.uint32)
        even = (raw >> np.uint32(16)) & np.uint32(1)
        rounded = ((raw + np.uint32(0x7FFF) + even) >> np.uint32(16)).astype(np.uint16)
        return np.where(np.isnan(values), np.uint16(0x7FFF), rounded)
    if is_float(kind):
        floats = {16: np.float16, 32: np.float32, 64: np.float64}[bits(kind)]
        return values.astype(floats).view(UNSIGNED[bits(kind)])
    if kind == "pred":
        return values
    return values.astype(SIGNED[bits(kind)] if kind.startswith("s") else UNSIGNED[bits(kind)])


def literal(text: str, kind: str) -> np.ndarray:
    """An immediate operand as bits: 12, -1, 0x1F, 0f3F800000, 0d… or a predicate."""
    width = bits(kind)
    if text[:2] in ("0f", "0d"):
        return np.array(int(text[2:], 16), dtype=UNSIGNED[32 if text[1] == "f" else 64])
    if kind == "pred":
        return np.array(int(text, 0) != 0)
    return np.array(int(text.rstrip("U"), 0) & ((1 << width) - 1), dtype=UNSIGNED[width])
