"""Instructions of a whole warp: exchanges, votes, matrix fragments; and asynchronous copies."""

from collections.abc import Callable

import numpy as np

from tests.peer.machine.memory import Fault, Who
from tests.peer.machine.numbers import decode
from tests.peer.machine.ptx import Unsupported

WARP = 32
# These end in no .sync and still are of a whole warp.
WHOLE = ("ldmatrix", "stmatrix", "mma", "shfl", "redux", "vote")


class Copies:
    """What cp.async has begun: per lane, in groups that are committed and waited for in order."""

    def __init__(self, lanes: int) -> None:
        self.committed = np.zeros(lanes, np.int64)
        self.begun: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []


def whole(instruction, lanes: np.ndarray) -> int:
    """The number of warps; raises Fault if one is not complete."""
    if (
        lanes.size % WARP
        or (lanes[::WARP] % WARP).any()
        or np.unique(lanes // WARP).size * WARP != (lanes.size)
    ):
        raise Fault(f"{instruction.text}: some lanes of a warp are not there")
    return lanes.size // WARP


def exchange(grid, instruction, lanes, where) -> None:
    """`shfl`: each lane takes the value of another; beyond the clamp its own."""
    opcode = instruction.opcode
    to, source, amount, clamp, *_ = instruction.operands
    value = grid.raw(source, "b32", where)
    amount, clamp = (grid.raw(o, "b32", where).astype(np.int64) for o in (amount, clamp))
    lane = lanes % WARP
    fixed = (clamp >> 8) & 31
    most = (lane & fixed) | (clamp & 31 & ~fixed)
    least = lane & fixed
    wanted = {
        "bfly": lambda: lane ^ amount,
        "idx": lambda: least | (amount & 31 & ~fixed),
        "up": lambda: lane - amount,
        "down": lambda: lane + amount,
    }[next(part for part in opcode if part in ("bfly", "idx", "up", "down"))]()
    taken = wanted >= (clamp & 31 & ~fixed | least) if "up" in opcode else wanted <= most
    other = np.where(taken, wanted, lane) + lanes - lane
    place = np.searchsorted(lanes, other)
    if (lanes[np.minimum(place, lanes.size - 1)] != other).any():
        raise Fault(f"{instruction.text}: a lane takes the value of one that is not there")
    name, _, predicate = to.partition("|")
    grid.write(name, "b32", value[place], where)
    if predicate:
        grid.write(predicate, "pred", taken, where)


def reduce(grid, instruction, lanes, where) -> None:
    """`redux`: one number of the whole warp."""
    kind = instruction.opcode[-1]
    function = {
        "add": np.add,
        "min": np.minimum,
        "max": np.maximum,
        "and": np.bitwise_and,
        "or": np.bitwise_or,
        "xor": np.bitwise_xor,
    }[instruction.opcode[2]]
    count = whole(instruction, lanes)
    values = grid.read(instruction.operands[1], kind, where).reshape(count, WARP)
    result = function.reduce(values, axis=1, dtype=values.dtype).repeat(WARP)
    grid.write(instruction.operands[0], kind, result, where)


def vote(grid, instruction, lanes, where) -> None:
    """`vote`: the lanes where a predicate holds, or whether it holds for any, for all."""
    to, source, *_ = instruction.operands
    unless = source.startswith("!")
    holds = grid.read(source.lstrip("!"), "pred", where) ^ unless
    count = whole(instruction, lanes)
    rows = holds.reshape(count, WARP)
    how = instruction.opcode[2]
    if how == "ballot":
        weights = np.uint64(1) << np.arange(WARP, dtype=np.uint64)
        ballot = (rows * weights).sum(1).astype(np.uint32)
        grid.write(to, "b32", ballot.repeat(WARP), where)
    elif how in ("any", "all"):
        grid.write(to, "pred", getattr(rows, how)(1).repeat(WARP), where)
    else:
        raise Unsupported(instruction.text)


def rows_of(grid, operand, instruction, lanes, where) -> tuple[np.ndarray, Who, int, int]:
    """Where the 8 rows of 16 bytes of each 8 × 8 matrix are: lane 8·j + i of a warp has row i of
    matrix j.
    """
    (count,) = (int(part[1]) for part in instruction.opcode if part in ("x1", "x2", "x4"))
    if "m8n8" not in instruction.opcode or instruction.opcode[-1] != "b16":
        raise Unsupported(instruction.text)
    warps = whole(instruction, lanes)
    given = grid.addresses(operand, where).reshape(warps, WARP)[:, : 8 * count].reshape(-1)
    first = lanes[::WARP].repeat(8 * count)
    return given, grid.who[first], warps, count


def load_matrix(grid, instruction, lanes, where) -> None:
    to, address = instruction.operands
    given, who, warps, count = rows_of(grid, address, instruction, lanes, where)
    data = np.ascontiguousarray(grid.shared.load(given, 16, who, instruction.text))
    matrices = data.view(np.uint16).reshape(warps, count, 8, 8)
    if "trans" in instruction.opcode:
        matrices = matrices.swapaxes(2, 3)
    values = np.ascontiguousarray(matrices).view(np.uint32).reshape(warps, count, WARP)
    for j, register in enumerate(to):
        grid.write(register, "b32", values[:, j].reshape(-1), where)


def store_matrix(grid, instruction, lanes, where) -> None:
    address, source = instruction.operands
    given, who, warps, count = rows_of(grid, address, instruction, lanes, where)
    values = np.stack([grid.raw(r, "b32", where).reshape(warps, WARP) for r in source], 1)
    matrices = np.ascontiguousarray(values).view(np.uint16).reshape(warps, count, 8, 8)
    if "trans" in instruction.opcode:
        matrices = np.ascontiguousarray(matrices.swapaxes(2, 3))
    data = matrices.view(np.uint8).reshape(-1, 16)
    grid.shared.store(given, data, who, instruction.text)


def multiply(grid, instruction, lanes, where) -> None:
    """`mma.m16n8k16` of 16-bit floats: D = A·B + C, summed in float64 and rounded once.

    Lane 4·g + q holds rows g and g + 8, columns 2·q and 2·q + 1 of every 8 × 8 part.
    """
    opcode = instruction.opcode
    if "m16n8k16" not in opcode or opcode[-4:] not in (
        ("f32", "bf16", "bf16", "f32"),
        ("f32", "f16", "f16", "f32"),
    ):
        raise Unsupported(instruction.text)
    kind = opcode[-2]
    warps = whole(instruction, lanes)
    to, first, second, third = instruction.operands

    def halves(registers):
        """(registers, warps, 8, 4, 2)."""
        raw = [np.ascontiguousarray(grid.raw(r, "b32", where)).view(np.uint16) for r in registers]
        return [decode(kind, r).astype(np.float64).reshape(warps, 8, 4, 2) for r in raw]

    def square(part):  # (warps, g, q, 2) → (warps, 8, 8)
        return part.reshape(warps, 8, 8)

    a = [square(part) for part in halves(first)]
    b = [square(part).swapaxes(1, 2) for part in halves(second)]
    left = np.concatenate((np.concatenate((a[0], a[2]), 2), np.concatenate((a[1], a[3]), 2)), 1)
    right = np.concatenate(b, 1)
    c = [grid.read(r, "f32", where).reshape(warps, 8, 4).astype(np.float64) for r in third]
    added = np.concatenate([square(np.stack(pair, 3)) for pair in (c[:2], c[2:])], 1)
    product = (left @ right + added).astype(np.float32)
    for i, register in enumerate(to):
        half = product[:, 8 * (i // 2) : 8 * (i // 2) + 8, i % 2 :: 2]
        grid.write(register, "f32", half.reshape(-1), where)


def copy(grid, instruction, lanes, where) -> None:
    """`cp.async` is here when it was waited for, and nobody may look before."""
    opcode = instruction.opcode
    if "commit_group" in opcode:
        grid.copies.committed[lanes] += 1
    elif "wait_group" in opcode or "wait_all" in opcode:
        pending = int(instruction.operands[0], 0) if instruction.operands else -1
        finish(grid, instruction, lanes, pending)
    elif "shared" in opcode and "global" in opcode:
        to, source, size, *given = instruction.operands
        size = int(size, 0)
        place, address = grid.addresses(to, where), grid.addresses(source, where)
        data = np.zeros((lanes.size, size), np.uint8)  # what is not copied is 0
        taken = grid.raw(given[0], "u32", where) if given else np.full(lanes.size, size)
        for length in np.unique(taken[taken > 0]):
            here = taken == length
            if length != size:
                raise Unsupported(instruction.text)
            who = grid.by(lanes[here])
            data[here] = grid.memory.load(address[here], size, who, instruction.text)
        grid.shared.announce(place, size, grid.by(where), instruction.text, comes=True)
        grid.copies.begun.append((lanes, place, data, grid.copies.committed[lanes].copy()))
    else:
        raise Unsupported(instruction.text)


def finish(grid, instruction, lanes, pending: int) -> None:
    """All of these lanes' copies but those of their last `pending` groups; −1: of uncommitted too."""
    left = []
    for owners, place, data, group in grid.copies.begun:
        done = np.isin(owners, lanes) & (group < grid.copies.committed[owners] - pending)
        who = grid.by(owners[done])
        grid.shared.announce(place[done], data.shape[1], who, instruction.text, comes=False)
        grid.shared.store(place[done], data[done], who, instruction.text)
        if not done.all():
            left.append((owners[~done], place[~done], data[~done], group[~done]))
    grid.copies.begun = left


def meet(grid, instruction, lanes, where) -> None:
    """`bar.warp`: the lanes of a warp have come together, and nothing else happens."""


OPCODES: dict[str, Callable] = {
    "shfl": exchange,
    "redux": reduce,
    "vote": vote,
    "ldmatrix": load_matrix,
    "stmatrix": store_matrix,
    "mma": multiply,
    "cp": copy,
    "bar": meet,
}
