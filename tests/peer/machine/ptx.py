"""A kernel's PTX as a list of instructions, decoded once (PTX ISA 8.x, chapters 4 and 9)."""

import itertools
import re
from dataclasses import dataclass

STATEMENT = re.compile(r"\s*[\w.$]+:|[^;{}]*(?:\{[^{};]*\}[^;{}]*)*;|[{}]")


class Unsupported(Exception):
    """An instruction or directive that this machine does not know."""


@dataclass(frozen=True)
class Address:
    """[base + offset]: a register, a parameter or a variable in shared memory, and bytes."""

    base: str
    offset: int


Operand = str | tuple[str, ...] | Address


@dataclass(frozen=True)
class Instruction:
    """`guard` is the predicate that must hold, or not hold where `unless`."""

    opcode: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: str | None
    unless: bool
    text: str


@dataclass(frozen=True)
class Program:
    """The one entry of a module: parameter names in order, register widths by prefix in bits."""

    name: str
    parameters: tuple[str, ...]
    registers: dict[str, int]
    instructions: tuple[Instruction, ...]
    labels: dict[str, int]


def parse(ptx: str) -> Program:
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", ptx, flags=re.S)
    entry = re.search(r"\.entry\s+(\w+)\s*\((.*?)\)[^{]*\{", text, re.S)
    if entry is None:
        raise Unsupported("PTX without an .entry")
    depth = itertools.accumulate((char == "{") - (char == "}") for char in text[entry.end() :])
    length = next(i for i, level in enumerate(depth) if level < 0)
    body = text[entry.end() : entry.end() + length]
    body = re.sub(r"^\s*\.(loc|pragma)\b[^\n]*$", "", body, flags=re.M)
    registers: dict[str, int] = {}
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    for found in STATEMENT.findall(body):
        statement = " ".join(found.split()).rstrip(";").strip()
        if statement in ("", "{", "}"):  # the braces of inline assembly
            continue
        if statement.endswith(":"):
            labels[statement[:-1]] = len(instructions)
        elif statement.startswith(".reg"):
            kind, names = re.fullmatch(r"\.reg \.(\w+) (.*)", statement).groups()
            width = 1 if kind == "pred" else int(re.sub(r"\D", "", kind))
            registers |= {re.sub(r"<\d+>", "", n.strip()): width for n in names.split(",")}
        elif statement.startswith("."):
            raise Unsupported(f"directive {statement}")
        else:
            instructions.append(instruction(statement))
    return Program(
        name=entry[1],
        parameters=tuple(re.findall(r"(\w+)\s*(?:,|$)", entry[2].strip())),
        registers=registers,
        instructions=tuple(instructions),
        labels=labels,
    )


def instruction(text: str) -> Instruction:
    guard, opcode, operands = re.fullmatch(r"(?:@(!?%\w+) )?(\S+)(?: (.*))?", text).groups()
    parts = re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|[^,{\[])+", operands or "")
    return Instruction(
        opcode=tuple(opcode.split(".")),
        operands=tuple(operand(part.strip()) for part in parts),
        guard=guard and guard.lstrip("!"),
        unless=guard is not None and guard.startswith("!"),
        text=text,
    )


def operand(text: str) -> Operand:
    if text.startswith("{"):
        return tuple(part.strip() for part in text[1:-1].split(","))
    if text.startswith("["):
        base, offset = re.fullmatch(r"\[\s*([%\w$.]+)\s*(?:\+?\s*(-?\w+))?\s*\]", text).groups()
        return Address(base, int(offset or "0", 0))
    return text
