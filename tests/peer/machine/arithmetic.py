"""What an instruction without memory computes, lane by lane: numpy functions by opcode.

`fma` rounds a float64 sum once more, approximations (`ex2.approx`) are exact, and subnormal numbers
are not flushed: results differ from a GPU's in the last place, as those of two GPUs do.
"""

import numpy as np

from tests.peer.machine.numbers import SIGNED, UNSIGNED, bits, is_float
from tests.peer.machine.ptx import Unsupported


def quotient(a, b):
    """Truncated; by zero, all bits set."""
    safe = np.where(b == 0, 1, b).astype(a.dtype)
    result = a // safe
    if a.dtype.kind == "i":
        result = result + ((result < 0) & (result * safe != a)).astype(a.dtype)
    return np.where(b == 0, np.array(-1).astype(a.dtype), result)


def shifted(function, a, amount):
    """By at least the width: 0, or the sign for a signed shift to the right."""
    width = a.dtype.itemsize * 8
    capped = np.minimum(amount, width - 1).astype(a.dtype)
    result = function(a, capped)
    return result if a.dtype.kind == "i" else np.where(amount >= width, a.dtype.type(0), result)


def nearest(function):
    return lambda *values: function(*(v.astype(np.float64) for v in values)).astype(values[0].dtype)


FLOAT = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "fma": nearest(lambda a, b, c: a * b + c),
    "min": np.fmin,
    "max": np.fmax,
    "neg": np.negative,
    "abs": np.abs,
    "copysign": lambda a, b: np.copysign(b, a),
    "sqrt": nearest(np.sqrt),
    "rsqrt": nearest(lambda a: 1 / np.sqrt(a)),
    "rcp": nearest(lambda a: 1 / a),
    "ex2": nearest(np.exp2),
    "lg2": nearest(np.log2),
    "sin": nearest(np.sin),
    "cos": nearest(np.cos),
    "tanh": nearest(np.tanh),
}
INTEGER = {
    "add": np.add,
    "sub": np.subtract,
    "div": quotient,
    "rem": lambda a, b: a - quotient(a, b) * b,
    "min": np.minimum,
    "max": np.maximum,
    "neg": lambda a: (-a.view(SIGNED[a.itemsize * 8])).view(a.dtype),
    "abs": np.abs,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "popc": lambda a: np.bitwise_count(a).astype(np.uint32),
    "clz": lambda a: (a.itemsize * 8 - np.ceil(np.log2(a.astype(object) + 1.0))).astype(np.uint32),
}
COMPARE = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
}


def result(opcode: tuple[str, ...], values: list[np.ndarray]) -> np.ndarray:
    """Of arithmetic and logic on values already decoded by the opcode's type."""
    name, kind = opcode[0], opcode[-1]
    if is_float(kind):
        function = FLOAT.get("fma" if name == "mad" else name)
    elif name in ("mul", "mad"):
        return product(opcode[1], *values)
    else:
        function = INTEGER.get(name)
    if function is None:
        raise Unsupported(".".join(opcode))
    computed = function(*values)
    if computed.dtype.kind == "f":
        # As on a GPU, one NaN: which of two NaN a processor's sum is depends on their order.
        np.copyto(computed, np.nan, where=np.isnan(computed))
    return computed


def product(part: str, a, b, c=None):
    """The low half, the high half or all (`wide`) of a·b, plus c."""
    if part in ("wide", "hi"):
        wide = np.int64 if a.dtype.kind == "i" else np.uint64
        if part == "hi" and a.itemsize == 8:
            high = (a.astype(object) * b.astype(object)) >> 64
            whole = high.astype(a.dtype)
        else:
            whole = a.astype(wide) * b.astype(wide)
            if part == "wide" and a.itemsize < 4:
                whole = whole.astype(np.int32 if a.dtype.kind == "i" else np.uint32)
            if part == "hi":
                whole = (whole >> wide(a.itemsize * 8)).astype(a.dtype)
    else:
        whole = a * b
    return whole if c is None else whole + c.astype(whole.dtype)


def shift(name: str, a, amount):
    return shifted(np.left_shift if name == "shl" else np.right_shift, a, amount)


def compare(relation: str, a, b):
    """A float relation that ends in u holds for NaN too; num and nan ask for NaN alone."""
    if a.dtype.kind != "f":
        return COMPARE[relation](a, b)
    unordered = np.isnan(a) | np.isnan(b)
    if relation in ("num", "nan"):
        return unordered if relation == "nan" else ~unordered
    if relation.endswith("u"):
        return COMPARE[relation[:-1]](a, b) | unordered
    return COMPARE[relation](a, b) & ~unordered


def field(a, position, length):
    """`bfe`: `length` bits from `position`, extended by their sign where a is signed."""
    width = a.itemsize * 8
    raw = a.view(UNSIGNED[width])
    unsigned = raw.dtype.type
    mask = shifted(np.left_shift, np.full_like(raw, 1), length.astype(raw.dtype)) - unsigned(1)
    taken = shifted(np.right_shift, raw, position.astype(raw.dtype)) & mask
    if a.dtype.kind == "u":
        return taken
    left = (width - length.astype(np.int64)).astype(a.dtype)
    return (taken.view(a.dtype) << left) >> left


def permuted(a, b, selector):
    """`prmt`: four bytes chosen from the eight of a and b, or their signs."""
    both = a.astype(np.uint64) | (b.astype(np.uint64) << np.uint64(32))
    whole = np.zeros(a.shape, np.uint32)
    for i in range(4):
        nibble = (selector >> np.uint32(4 * i)) & np.uint32(15)
        place = (nibble & np.uint32(7)).astype(np.uint64) * np.uint64(8)
        byte = ((both >> place) & np.uint64(255)).astype(np.uint32)
        sign = np.where(byte >> np.uint32(7), np.uint32(255), np.uint32(0))
        whole |= np.where(nibble & np.uint32(8), sign, byte) << np.uint32(8 * i)
    return whole


def converted(opcode: tuple[str, ...], value: np.ndarray) -> np.ndarray:
    """Towards an integer: rounded as the opcode says, kept within its range, NaN to 0."""
    to = opcode[-2]
    if value.dtype.kind != "f" or is_float(to):
        return value
    rounding = {"rzi": np.trunc, "rni": np.rint, "rmi": np.floor, "rpi": np.ceil}
    (name,) = (part for part in opcode if part in rounding)
    info = np.iinfo((SIGNED if to.startswith("s") else UNSIGNED)[bits(to)])
    whole = np.nan_to_num(rounding[name](value.astype(np.float64)), nan=0.0)
    inside = (whole >= info.min) & (whole <= info.max)
    limit = np.where(whole < 0, info.min, info.max).astype(info.dtype)
    return np.where(inside, np.where(inside, whole, 0).astype(info.dtype), limit)
