"""A binary's machine code, read: instructions, loops, widths of loads, barriers, registers, stack."""

import re
import subprocess
import tempfile
from dataclasses import dataclass

import triton

INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,6})\*/\s+(@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)\s*([^;]*);")
USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)")
# Registers are given to a warp in units of 256 (8 a lane); a multiprocessor has 65,536, 64 warps, 32
# blocks (CUDA C++ Programming Guide, technical specifications, 8.0 to 10.0) and keeps 1 KiB of
# shared memory per block for itself.
REGISTERS, WARPS, BLOCKS, RESERVED_BYTES = 65_536, 64, 32, 1024


@dataclass(frozen=True)
class Instruction:
    address: int
    opcode: str
    operands: str
    guard: str = ""

    @property
    def target(self) -> int | None:
        """Where a branch goes, None for what is none."""
        found = re.search(r"0x([0-9a-f]+)", self.operands)
        return int(found[1], 16) if self.opcode.startswith("BRA") and found else None

    @property
    def may_fall_through(self) -> bool:
        """A branch by a predicate, or where lanes diverge, is not always taken."""
        sure = (
            self.opcode in ("BRA", "BRA.U", "EXIT") and not self.guard and "P" not in self.operands
        )
        return not sure

    @property
    def load_bytes(self) -> int:
        """What one lane loads from global memory, by LDG or a copy to shared memory; otherwise 0."""
        if not self.opcode.startswith(("LDG", "LDGSTS")):
            return 0
        parts = self.opcode.split(".")
        narrow = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16, "ENL2": 32}
        return next((narrow[part] for part in parts if part in narrow), 4)


@dataclass(frozen=True)
class Binary:
    """`stack_bytes` is what a thread spills, or indexes, in memory."""

    instructions: tuple[Instruction, ...]
    registers: int
    stack_bytes: int

    def loops(self) -> list[tuple[Instruction, ...]]:
        """From the target of each branch backwards to the branch; a trap that jumps to itself is none."""
        found = []
        for last in self.instructions:
            first = last.target
            if first is not None and first < last.address:
                inside = (i for i in self.instructions if first <= i.address <= last.address)
                found.append(tuple(inside))
        return found

    def row_loop(self) -> tuple[Instruction, ...]:
        """The shortest of the loops that load most; where none loads, no instruction."""
        loading = [loop for loop in self.loops() if loaded_bytes(loop)]
        return min(loading, key=lambda loop: (-loaded_bytes(loop), len(loop)), default=())

    def barriers_in_loops(self) -> int:
        """Barriers of a block; each counts once, however deep it lies."""
        inside = {i for loop in self.loops() for i in loop}
        return sum(i.opcode.startswith("BAR") for i in inside)

    def issued(self, trips: int) -> int:
        """Instructions of a warp where each innermost loop runs `trips` times and nothing branches."""
        loops = self.loops()
        inner = [one for one in loops if not any(set(two) < set(one) for two in loops)]
        return len(self.instructions) + (trips - 1) * sum(map(len, inner))

    def resident_blocks(self, warps: int, shared_bytes: int, most_shared_bytes: int) -> int:
        """Blocks that a multiprocessor holds at once."""
        registers = -(-self.registers // 8) * 8 * 32 * warps
        return min(
            REGISTERS // registers,
            WARPS // warps,
            BLOCKS,
            (most_shared_bytes + RESERVED_BYTES) // (shared_bytes + RESERVED_BYTES),
        )


def trip(loop: tuple[Instruction, ...]) -> tuple[int, int]:
    """The fewest and the most instructions from a loop's head to its end, loops inside passed once."""
    begun = {loop[0].address: (0, 0)}
    for place, one in enumerate(loop[:-1]):
        if one.address not in begun:
            continue  # reached from elsewhere alone, as a trap is
        fewest, most = (count + 1 for count in begun[one.address])
        after = [one.target] if one.target is not None and one.target > one.address else []
        after += [loop[place + 1].address] if one.may_fall_through else []
        for address in after:
            least, longest = begun.get(address, (fewest, most))
            begun[address] = min(least, fewest), max(longest, most)
    fewest, most = begun[loop[-1].address]
    return fewest + 1, most + 1


def loaded_bytes(instructions: tuple[Instruction, ...]) -> int:
    return sum(i.load_bytes for i in instructions)


def row_load_bytes(instructions: tuple[Instruction, ...]) -> int:
    """The width of loads by which most bytes come: those of the rows."""
    widths = [i.load_bytes for i in instructions if i.load_bytes]
    return max(set(widths), key=lambda width: (width * widths.count(width), width), default=0)


def read(cubin: bytes) -> Binary:
    """By the cuobjdump of triton's wheel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = triton.knobs.nvidia.cuobjdump.path
        command = [tool, "-sass", "-res-usage", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return parse(done.stdout)


def parse(listing: str) -> Binary:
    usage = USAGE.search(listing)
    found = INSTRUCTION.findall(listing)
    if usage is None or not found:
        raise ValueError(f"no code in what cuobjdump says: {listing[:200]!r}")
    registers, stack, local = map(int, usage.groups())
    code = tuple(
        Instruction(int(address, 16), opcode, operands, guard.strip())
        for address, guard, opcode, operands in found
    )
    return Binary(code, registers, stack + local)
