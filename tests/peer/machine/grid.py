"""Runs a program on many blocks at once, a lane of numpy arrays for each of their threads.

Lanes at one instruction go together. Among several such groups the one furthest back runs, so that
lanes which a branch has parted meet again. An instruction of a whole warp (`.sync`) waits for the
warp's lanes that have not returned, and a barrier for the block's.
"""

import itertools
from collections.abc import Callable

import numpy as np

from tests.peer.machine import arithmetic, warps
from tests.peer.machine.memory import Fault, Global, Shared, Who
from tests.peer.machine.numbers import UNSIGNED, bits, decode, encode, is_float, literal
from tests.peer.machine.ptx import Address, Instruction, Operand, Program, Unsupported

LANES_AT_ONCE = 1 << 14
WARP = 32
ARITHMETIC = {*arithmetic.FLOAT, *arithmetic.INTEGER, "mad"}


class Grid:
    """Blocks `first` … `first + blocks` of a launch of `blocks_in_all` along x."""

    def __init__(
        self,
        program: Program,
        arguments: dict[str, int | float],
        memory: Global,
        shared_bytes: int,
        threads: int,
        first: int,
        blocks: int,
        blocks_in_all: int,
    ) -> None:
        self.program = program
        self.arguments = arguments
        self.memory = memory
        self.threads = threads
        self.total = threads * blocks
        self.lanes = np.arange(self.total)
        self.block = self.lanes // threads
        self.warp = self.lanes // WARP
        thread = (self.lanes % threads).astype(np.uint32)
        zero = np.zeros(self.total, np.uint32)
        self.special = {
            "%tid.x": thread,
            "%laneid": thread % np.uint32(WARP),
            "%ctaid.x": (first + self.block).astype(np.uint32),
            "%ntid.x": zero + np.uint32(threads),
            "%nctaid.x": zero + np.uint32(blocks_in_all),
        } | dict.fromkeys(("%tid.y", "%tid.z", "%ctaid.y", "%ctaid.z"), zero)
        self.shared = Shared(shared_bytes, first, blocks)
        self.epoch = np.zeros(self.total, np.int32)
        self.who = Who(first + self.block, (thread // WARP).astype(np.int8), self.epoch)
        self.registers: dict[str, np.ndarray] = {}
        self.alive = np.ones(self.total, bool)
        self.live = self.total
        self.copies = warps.Copies(self.total)
        self.executed = 0

    def run(self) -> None:
        """Until every lane has returned; raises Fault where one does what it must not."""
        ready = {0: self.lanes}
        waiting: dict[int, np.ndarray] = {}
        with np.errstate(all="ignore"):
            while ready:
                pc = min(ready)
                lanes = ready.pop(pc)
                instruction = self.program.instructions[pc]
                if unit := waits_for(instruction, self.threads):
                    if pc in waiting:
                        lanes = together(waiting.pop(pc), lanes)
                    lanes, rest = self.complete(lanes, unit)
                    if rest.size:
                        waiting[pc] = rest
                    if not lanes.size:
                        continue
                self.executed += 1
                living = self.live
                for target, part in self.step(instruction, pc, lanes):
                    if part.size:
                        ready[target] = together(ready[target], part) if target in ready else part
                if self.live < living:  # those that waited for the lanes that returned may go on
                    for target, part in waiting.items():
                        ready[target] = together(ready[target], part) if target in ready else part
                    waiting = {}
        if waiting:
            at = "; ".join(self.program.instructions[pc].text for pc in sorted(waiting))
            raise Fault(f"threads wait for one another at: {at}")

    def complete(self, lanes: np.ndarray, unit: int) -> tuple[np.ndarray, np.ndarray]:
        """The lanes whose whole warp or block has come, and the others."""
        if lanes.size == self.live:
            return lanes, lanes[:0]
        count = np.bincount(lanes // unit, minlength=self.total // unit)
        living = np.bincount(np.flatnonzero(self.alive) // unit, minlength=self.total // unit)
        goes = (count == living)[lanes // unit]
        return lanes[goes], lanes[~goes]

    def step(self, instruction: Instruction, pc: int, lanes: np.ndarray):
        """Executes for `lanes`; gives where they go next."""
        active = lanes
        if instruction.guard is not None:
            holds = self.read(instruction.guard, "pred", self.where(lanes)) ^ instruction.unless
            active = lanes[holds]
        name = instruction.opcode[0]
        if name == "bra":
            (label,) = instruction.operands
            return [(self.program.labels[label], active), (pc + 1, without(lanes, active))]
        if name in ("ret", "exit"):
            self.alive[active] = False
            self.live -= active.size
            return [(pc + 1, without(lanes, active))]
        if name in ("bar", "barrier") and "warp" not in instruction.opcode:
            self.epoch[lanes] += 1
        elif active.size:
            self.execute(instruction, active)
        return [(pc + 1, lanes)]

    def where(self, lanes: np.ndarray):
        """An index of the registers' arrays."""
        return slice(None) if lanes.size == self.total else lanes

    def raw(self, operand: Operand, kind: str, where) -> np.ndarray:
        """An operand's bits, as many as `kind` has."""
        assert isinstance(operand, str), operand
        if operand in self.special:
            value = self.special[operand][where]
        elif operand.startswith("%"):
            value = self.register(operand)[where]
        elif operand == "global_smem":
            value = np.zeros(self.total, UNSIGNED[bits(kind)])[where]
        else:
            size = self.lanes[where].size
            return np.broadcast_to(literal(operand, kind), size)
        return value.astype(UNSIGNED[bits(kind)], copy=False)

    def read(self, operand: Operand, kind: str, where) -> np.ndarray:
        """An operand as numbers."""
        return decode(kind, np.ascontiguousarray(self.raw(operand, kind, where)))

    def register(self, name: str) -> np.ndarray:
        if name not in self.registers:
            width = self.program.registers[name.rstrip("0123456789")]
            self.registers[name] = np.zeros(self.total, UNSIGNED[width])
        return self.registers[name]

    def write(self, name: Operand, kind: str, values: np.ndarray, where) -> None:
        """Numbers to a register, which may be wider than they are: then extended by their sign."""
        if name == "_":
            return
        assert isinstance(name, str), name
        register = self.register(name)
        value = encode(kind, values)
        if value.itemsize < register.itemsize and kind.startswith("s"):
            value = value.view(f"i{value.itemsize}").astype(f"i{register.itemsize}")
        register[where] = value.astype(register.dtype, copy=False)

    def addresses(self, operand: Operand, where) -> np.ndarray:
        assert isinstance(operand, Address), operand
        offset = np.int64(operand.offset)
        if not operand.base.startswith("%"):
            return np.full(self.lanes[where].size, offset, np.int64).view(np.uint64)
        return (self.raw(operand.base, "u64", where).view(np.int64) + offset).view(np.uint64)

    def execute(self, instruction: Instruction, lanes: np.ndarray) -> None:
        opcode, operands, text = instruction.opcode, instruction.operands, instruction.text
        name, kind, where = opcode[0], opcode[-1], self.where(lanes)
        if name in MEMORY:
            MEMORY[name](self, instruction, where)
        elif name in warps.OPCODES:
            warps.OPCODES[name](self, instruction, lanes, where)
        elif name == "mov":
            self.move(operands, kind, where)
        elif name in ("shl", "shr"):
            amount = self.read(operands[2], "u32", where)
            value = arithmetic.shift(name, self.read(operands[1], kind, where), amount)
            self.write(operands[0], kind, value, where)
        elif name == "setp":
            self.compare(instruction, where)
        elif name == "selp":
            condition = self.read(operands[3], "pred", where)
            value = np.where(condition, *(self.raw(o, kind, where) for o in operands[1:3]))
            self.write(operands[0], f"b{bits(kind)}", value, where)
        elif name == "cvt":
            self.convert(instruction, where)
        elif name == "bfe":
            position, length = (self.read(o, "u32", where) for o in operands[2:])
            value = arithmetic.field(self.read(operands[1], kind, where), position, length)
            self.write(operands[0], kind, value, where)
        elif name == "prmt":
            value = arithmetic.permuted(*(self.read(o, "b32", where) for o in operands[1:]))
            self.write(operands[0], "b32", value, where)
        elif name in ARITHMETIC:
            self.compute(instruction, where)
        else:
            raise Unsupported(text)

    def compute(self, instruction: Instruction, where) -> None:
        opcode, kind = instruction.opcode, instruction.opcode[-1]
        wide = opcode[1] == "wide"
        twice = f"{kind[0]}{2 * bits(kind)}" if wide else kind
        kinds = (kind, kind, twice)
        operands = instruction.operands[1:]
        values = [self.read(o, k, where) for o, k in zip(operands, kinds, strict=False)]
        to = "u32" if opcode[0] in ("popc", "clz") else twice
        self.write(instruction.operands[0], to, arithmetic.result(opcode, values), where)

    def move(self, operands: tuple[Operand, ...], kind: str, where) -> None:
        """One value, or the parts of one to or from several registers, lowest first."""
        to, source = operands
        if isinstance(to, tuple):
            part = bits(kind) // len(to)
            whole = np.ascontiguousarray(self.raw(source, kind, where))
            values = whole.view(UNSIGNED[part]).reshape(-1, len(to))
            for i, register in enumerate(to):
                self.write(register, f"b{part}", values[:, i], where)
        elif isinstance(source, tuple):
            part = f"b{bits(kind) // len(source)}"
            values = np.stack([self.raw(o, part, where) for o in source], 1)
            self.write(to, f"b{bits(kind)}", values.view(UNSIGNED[bits(kind)])[:, 0], where)
        else:
            unsigned = kind if kind == "pred" else f"b{bits(kind)}"
            self.write(to, unsigned, self.raw(source, kind, where), where)

    def compare(self, instruction: Instruction, where) -> None:
        _, relation, *rest, kind = instruction.opcode
        to, a, b, *other = instruction.operands
        holds = arithmetic.compare(relation, *(self.read(o, kind, where) for o in (a, b)))
        if other:
            combine = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}
            (how,) = (part for part in rest if part in combine)
            holds = combine[how](holds, self.read(other[0], "pred", where))
        assert isinstance(to, str)
        yes, _, no = to.partition("|")
        self.write(yes, "pred", holds, where)
        if no:
            self.write(no, "pred", ~holds, where)

    def convert(self, instruction: Instruction, where) -> None:
        *_, to, kind = instruction.opcode
        values = [self.read(o, kind, where) for o in instruction.operands[1:]]
        # Of a pair, the first operand is the upper half.
        value = np.stack(values[::-1], 1) if to.endswith("x2") else values[0]
        if is_float(to) and kind[0] in "su":
            value = value.astype(np.float64)
        self.write(
            instruction.operands[0], to, arithmetic.converted(instruction.opcode, value), where
        )

    def by(self, where) -> Who:
        return self.who[where]

    def space(self, instruction: Instruction) -> Global | Shared:
        if "shared" in instruction.opcode[1] or "shared" in instruction.opcode:
            return self.shared
        if "global" in instruction.opcode:
            return self.memory
        raise Unsupported(instruction.text)

    def load(self, instruction: Instruction, where) -> None:
        kind = instruction.opcode[-1]
        to, address = instruction.operands
        registers = to if isinstance(to, tuple) else (to,)
        if "param" in instruction.opcode:
            assert isinstance(address, Address)
            argument = self.arguments[address.base]
            value = (
                np.array([argument], np.float32).view(np.uint32)
                if isinstance(argument, float)
                else np.array([argument & ((1 << bits(kind)) - 1)], UNSIGNED[bits(kind)])
            )
            self.write(to, kind, decode(kind, value).repeat(self.lanes[where].size), where)
            return
        size = bits(kind) // 8 * len(registers)
        place = self.addresses(address, where)
        data = self.space(instruction).load(place, size, self.by(where), instruction.text)
        values = np.ascontiguousarray(data).view(UNSIGNED[bits(kind)])
        for i, register in enumerate(registers):
            value = np.ascontiguousarray(values[:, i])
            self.write(register, kind, decode(kind, value), where)

    def store(self, instruction: Instruction, where) -> None:
        kind = instruction.opcode[-1]
        address, source = instruction.operands
        registers = source if isinstance(source, tuple) else (source,)
        values = np.stack([self.raw(r, kind, where) for r in registers], 1)
        data = np.ascontiguousarray(values).view(np.uint8)
        place = self.addresses(address, where)
        self.space(instruction).store(place, data, self.by(where), instruction.text)

    def update(self, instruction: Instruction, where) -> None:
        """`atom` and `red`, one lane after the other."""
        kind = instruction.opcode[-1]
        to, address, *sources = (
            instruction.operands
            if instruction.opcode[0] == "atom"
            else ("_", *instruction.operands)
        )
        (function,) = (ATOMIC[part] for part in instruction.opcode[1:] if part in ATOMIC)
        given = [self.read(source, kind, where) for source in sources]
        place = self.addresses(address, where)
        old = np.empty((place.size, bits(kind) // 8), np.uint8)
        space, who = self.space(instruction), self.by(where)
        for i in range(place.size):
            one = slice(i, i + 1)
            arguments = [g[one] for g in given]

            def change(data, arguments=arguments):
                value = decode(kind, data.view(UNSIGNED[bits(kind)])[0])
                return encode(kind, function(value, *arguments)).view(np.uint8)[None]

            old[one] = space.update(place[one], change, old.shape[1], who[one], instruction.text)
        old = old.view(UNSIGNED[bits(kind)])[:, 0]
        self.write(to, kind, decode(kind, old), where)

    def address_space(self, instruction: Instruction, where) -> None:
        """`cvta`: one address names a place in every space here."""
        to, source = instruction.operands
        self.write(to, "u64", self.raw(source, "u64", where), where)

    def nothing(self, instruction: Instruction, where) -> None:
        """Hints, and fences between memory operations that are in order here anyway."""


ATOMIC: dict[str, Callable] = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "exch": lambda old, new: new,
    "cas": lambda old, expected, new: np.where(old == expected, new, old),
}
MEMORY: dict[str, Callable[[Grid, Instruction, object], None]] = {
    "ld": Grid.load,
    "st": Grid.store,
    "atom": Grid.update,
    "red": Grid.update,
    "cvta": Grid.address_space,
    "prefetch": Grid.nothing,
    "fence": Grid.nothing,
    "membar": Grid.nothing,
}


def waits_for(instruction: Instruction, threads: int) -> int:
    """How many neighbouring lanes must have come: a warp, a block, or 0."""
    opcode = instruction.opcode
    if opcode[0] in ("bar", "barrier") and "warp" not in opcode:
        if instruction.operands != ("0",) or not {"sync", "cta"} & set(opcode):
            raise Unsupported(instruction.text)
        return threads
    return WARP if "sync" in opcode or opcode[0] in warps.WHOLE else 0


def together(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.sort(np.concatenate((one, other)))


def without(lanes: np.ndarray, some: np.ndarray) -> np.ndarray:
    if not some.size:
        return lanes
    return lanes[:0] if some.size == lanes.size else np.setdiff1d(lanes, some, assume_unique=True)


def run(
    program: Program,
    arguments: dict[str, int | float],
    memory: Global,
    shared_bytes: int,
    threads: int,
    blocks: int,
) -> int:
    """A whole launch, so many lanes at a time; how many instructions were executed for a group."""
    at_once = max(1, LANES_AT_ONCE // threads)
    executed = 0
    for first, last in itertools.pairwise([*range(0, blocks, at_once), blocks]):
        part = last - first
        grid = Grid(program, arguments, memory, shared_bytes, threads, first, part, blocks)
        grid.run()
        executed += grid.executed
    return executed
