"""Who may import whom: the whole table of rooms. There is no circle, neither of rooms nor of files.

Every import counts, one inside a function too, except by name through `suites.registry.load`.
"""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]


class Room(NamedTuple):
    """What a room may import beside itself, and why no more."""

    imports: str
    reason: str


ROOMS = {
    "peer": Room("", "the layer is used alone"),
    "baselines": Room("peer", "layers know no suite"),
    "suites.errors": Room("", "every room may raise them"),
    "suites.output": Room("", "what is printed knows nobody"),
    "suites.registry": Room("suites.errors", "it holds names and imports by them"),
    "suites.layers": Room("peer baselines suites.errors", "it names what there is to build"),
    "suites.records": Room(
        "suites.errors suites.output", "records do not know what made or reads them"
    ),
    "suites.measure": Room("peer suites.errors suites.records", "instruments know no subject"),
    "suites.text": Room("suites.errors suites.records", "text knows no model"),
    "suites.analysis": Room("suites.errors suites.records", "numbers know no print"),
    "suites.language_model": Room(
        "peer suites.errors suites.layers suites.records suites.text",
        "one model knows nothing of many",
    ),
    "suites.compare": Room(
        "suites.errors suites.output suites.records suites.analysis",
        "two sides are compared by records alone",
    ),
    "suites.tables": Room(
        "suites.errors suites.output suites.registry suites.records suites.analysis",
        "tables are made of records alone",
    ),
    "suites.figures": Room(
        "suites.registry suites.records suites.analysis suites.tables",
        "figures are made of records alone",
    ),
    "suites.sweep": Room(
        "suites.errors suites.output suites.registry suites.layers suites.records suites.measure "
        "suites.text suites.language_model suites.tables suites.figures",
        "a sweep runs any experiment and knows none",
    ),
    "suites.distributed": Room(
        "peer baselines suites.errors suites.output suites.layers suites.records suites.measure "
        "suites.text suites.language_model suites.sweep suites.tables",
        "one model over many processes runs a sweep's case, and knows no experiment",
    ),
    "suites.budgets": Room(
        "suites.errors suites.output suites.registry suites.layers suites.records suites.measure "
        "suites.language_model suites.tables suites.figures",
        "counting needs no run",
    ),
    "suites.binary": Room(
        "peer suites.errors suites.output suites.registry suites.records suites.measure suites.tables",
        "what is launched is read, whoever times it",
    ),
    "suites.tiles": Room(
        "peer suites.records suites.measure",
        "what a kernel is launched with is tried, whoever asks",
    ),
    "suites.gpu": Room(
        "peer suites.errors suites.records suites.measure", "a visit calls verbs by name"
    ),
    "suites.speed.cells": Room(
        "suites.layers suites.records suites.language_model",
        "a cell is a value, stated before anything is built",
    ),
    "suites.speed.subjects": Room(
        "peer suites.errors suites.layers suites.language_model suites.speed.cells",
        "a subject does not know how it is timed",
    ),
    "suites.speed.harness": Room(
        "suites.errors suites.output suites.registry suites.layers suites.records suites.measure "
        "suites.tables suites.figures suites.speed.cells suites.speed.subjects",
        "the harness times any suite and knows none",
    ),
    "suites.speed": Room(
        "suites.registry suites.language_model suites.speed.cells suites.speed.subjects "
        "suites.speed.harness",
        "a speed suite states its cells and leaves the rest to the harness",
    ),
    "suites.regress": Room(
        "suites.errors suites.layers suites.records suites.measure suites.analysis suites.compare "
        "suites.binary suites.speed.cells suites.speed.harness",
        "the gate measures speed, and trains nothing",
    ),
    "suites.paper": Room(
        "suites.records suites.analysis suites.tables suites.language_model suites.sweep",
        "an experiment states its arms and leaves the rest to the sweep",
    ),
    "suites.beyond": Room(
        "suites.records suites.analysis suites.tables suites.language_model suites.sweep suites.paper",
        "an experiment beyond the paper is one more, and its claims are judged as the paper's",
    ),
    "suites.report": Room(
        "suites.errors suites.registry suites.records suites.analysis suites.compare suites.tables "
        "suites.figures suites.paper",
        "pages are made of records alone",
    ),
    "suites.verbs": Room(
        "peer suites.errors suites.output suites.registry suites.layers suites.records suites.measure "
        "suites.tiles suites.gpu suites.compare suites.tables suites.figures suites.language_model "
        "suites.sweep suites.distributed suites.budgets suites.regress suites.paper suites.report",
        "verbs reach suites by name",
    ),
    "suites.__main__": Room("suites.errors suites.output", "verbs are loaded by name"),
}
WITHOUT_TORCH = ("records", "registry", "text", "analysis", "compare", "tables", "figures")
WITHOUT_TORCH += (
    "verbs",
    "paper",
    "beyond",
    "report",
    "sweep.experiment",
    "sweep.command",
    "speed.cells",
)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_of(path): path
    for folder in ("peer", "baselines", "suites")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def imports(text: str) -> set[str]:
    """Modules of this repository that a source imports, the deepest that is named."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                member = f"{node.module}.{alias.name}"
                found.add(member if member in FILES else str(node.module))
    return {name for name in found if name.split(".")[0] in ("peer", "baselines", "suites")}


def room_of(module: str) -> str:
    """The deepest room that holds `module`; the package `suites` itself imports nothing."""
    holding = [room for room in ROOMS if f"{module}.".startswith(f"{room}.")]
    return max(holding, key=len)


def complaints(module: str, text: str) -> list[str]:
    own = room_of(module)
    allowed = {own, *ROOMS[own].imports.split()}
    return [
        f"{own.replace('.', '/')} may not import {room_of(other).replace('.', '/')}: "
        f"{ROOMS[own].reason} ({module} imports {other})"
        for other in sorted(imports(text))
        if room_of(other) not in allowed
    ]


def circle(arrows: dict[str, set[str]]) -> str | None:
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return " → ".join(reversed(error.args[1]))
    return None


def test_every_room_is_in_the_table() -> None:
    folders = {module.rpartition(".")[0] for module in FILES if module.count(".") > 1}
    assert {f for f in folders if f.startswith("suites.")} <= set(ROOMS)
    assert {
        module for module in FILES if module.count(".") == 1 and module.startswith("suites.")
    } <= (set(ROOMS))


@pytest.mark.parametrize("module", [module for module in FILES if module != "suites"])
def test_arrows(module: str) -> None:
    assert not (wrong := complaints(module, FILES[module].read_text())), "\n".join(wrong)


def test_every_arrow_of_the_table_is_drawn() -> None:
    drawn: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module, path in FILES.items():
        if module != "suites":
            drawn[room_of(module)] |= {room_of(other) for other in imports(path.read_text())}
    unused = {
        f"{room} → {other}"
        for room, stated in ROOMS.items()
        for other in stated.imports.split()
        if other not in drawn[room]
    }
    assert not unused


def test_no_circle_of_rooms() -> None:
    assert circle({room: set(stated.imports.split()) for room, stated in ROOMS.items()}) is None


def test_no_circle_of_files() -> None:
    arrows = {module: imports(path.read_text()) - {module} for module, path in FILES.items()}
    assert circle(arrows) is None


def test_a_wrong_arrow_and_a_circle_are_named() -> None:
    assert complaints(
        "suites.text.corpus", "from suites.language_model.decoder import Decoder"
    ) == [
        (
            "suites/text may not import suites/language_model: text knows no model "
            "(suites.text.corpus imports suites.language_model.decoder)"
        )
    ]
    assert complaints("peer.layer", "def lazily():\n    import suites.errors") != []
    found = circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert found is not None
    steps = found.split(" → ")
    assert all(step in ("ab", "bc", "ca") for step in map("".join, pairwise(steps)))


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_no_torch_in(room: str) -> None:
    """In a fresh process: every module of the room loads, and torch is not loaded by any."""
    name = f"suites.{room}"
    modules = [m for m in FILES if f"{m}.".startswith(f"{name}.")]
    assert modules
    program = f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\n"
    program += "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
