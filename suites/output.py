"""What a verb says: text in any encoding, what it lacks spelled in ASCII, tables that fit, or JSON."""

import codecs
import contextlib
import io
import json
import re
import sys
import unicodedata
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Literal

import click

Format = Literal["table", "markdown", "csv", "json"]
FORMATS: tuple[Format, ...] = ("table", "markdown", "csv", "json")

SAID = "suites.output.said"  # in the context of a verb that was called with --json
SILENT = "suites.output.silent"  # in the context of a verb whose words another process says

WIDTH = 80
CELLS = (40, 32, 24, 20, 18, 16, 14, 12)  # how long a line of a cell may be, tried in turn

LEGIBLE = "legible"  # as `errors` of a stream
SPELLED = {
    "–": "-",
    "—": "-",
    "−": "-",
    "‖": "|",
    "×": "x",
    "·": "*",
    "±": "+-",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "√": "sqrt ",
    "Σ": "sum ",
    "σ": "sigma",
    "ᵀ": "^T",
}


def collect(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        context.meta[SAID] = []
        # What others print while the verb runs is no part of the object.
        context.with_resource(contextlib.redirect_stdout(sys.stderr))


JSON = click.Option(
    ["--json"],
    is_flag=True,
    expose_value=False,
    callback=collect,
    help="print one JSON object when done: the status, and all that is said, in full",
)


def with_json(command: click.Command) -> click.Command:
    """`command`, which takes --json."""
    if JSON not in command.params:
        command.params.append(JSON)
    return command


def say(text: str, **data: Any) -> None:
    """`text` for a reader at once; with --json `data`, or the text where it is all, when the verb is done."""
    context = click.get_current_context(silent=True)
    if context is not None and SILENT in context.meta:
        return
    said = None if context is None else context.meta.get(SAID)
    if said is None:
        click.echo(text)
    else:
        said.append(data or {"text": text})


def silence() -> None:
    """Of several processes with one verb, one speaks; this is another."""
    click.get_current_context().meta[SILENT] = True


def finish(context: click.Context, status: int) -> None:
    """Prints the object of a verb that was called with --json."""
    if SAID in context.meta and SILENT not in context.meta:
        click.echo(
            json.dumps({"status": status, "said": context.meta[SAID]}, indent=1, allow_nan=False)
        )


def legible(error: UnicodeError) -> tuple[str, int]:
    """A codec's error handler: the likeness of what cannot be encoded, "?" where there is none."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(SPELLED.get(one) or likeness(one) for one in lost), error.end


def likeness(character: str) -> str:
    """é is e and … is three dots."""
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or "?"


def make_legible() -> None:
    """For both streams of this process."""
    codecs.register_error(LEGIBLE, legible)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=LEGIBLE)


def fitted(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> tuple[str, list[str]]:
    """A table at most WIDTH wide, its cells broken into lines, and the headers of the last columns,
    left out where that is not enough. A first cell is not repeated in the rows below it."""
    columns = [list(map(str, column)) for column in zip(headers, *rows, strict=True)]
    first = columns[0]
    columns[0] = [c if i < 2 or c != first[i - 1] else "" for i, c in enumerate(first)]
    broken = {
        size: [[in_lines(cell, size) for cell in column] for column in columns] for size in CELLS
    }
    choices = [(shown, size) for shown in range(len(columns), 0, -1) for size in CELLS]
    shown, size = next(
        (
            (shown, size)
            for shown, size in choices
            if sum(map(width, broken[size][:shown])) + 2 * (shown - 1) <= WIDTH
        ),
        choices[-1],
    )
    return drawn(broken[size][:shown]), list(headers[shown:])


def within(headers: Sequence[str], rows: Sequence[Sequence[object]], whole: str = "") -> str:
    """`fitted`, with a line on the columns that it leaves out; `whole` is the option that shows them."""
    table, left_out = fitted(headers, rows)
    more = f"{whole} shows too" if whole else "too wide for a terminal"
    return f"{table}\n\n- {more}: {', '.join(left_out)}" if left_out else table


def in_lines(cell: str, size: int) -> str:
    """Broken after spaces, slashes and hyphens before a letter, so that a number stays whole."""
    lines = [""]
    for piece in re.split(r"(?<=[\s/])|(?<=\w-)(?=[A-Za-z])", cell):
        if lines[-1] and len((lines[-1] + piece).rstrip()) > size:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def width(column: list[str]) -> int:
    return max(len(line) for cell in column for line in cell.split("\n"))


def drawn(columns: list[list[str]]) -> str:
    """Cells of several lines beside each other, a rule below the headers."""
    widths = [width(column) for column in columns]
    lines = []
    for number, row in enumerate(zip(*columns, strict=True)):
        for line in zip_longest(*(cell.split("\n") for cell in row), fillvalue=""):
            padded = (part.ljust(wide) for part, wide in zip(line, widths, strict=True))
            lines.append("  ".join(padded).rstrip())
        if number == 0:
            lines.append("  ".join("-" * wide for wide in widths))
    return "\n".join(lines)
