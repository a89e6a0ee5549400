"""How a verb ends: every way has a status of its own, and a crash is never that of a result."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

import suites.__main__ as front
from suites.errors import UserError
from suites.output import LEGIBLE, make_legible

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def ending(monkeypatch, capsys):
    """The status and standard error of every verb when its body is `body`."""

    def end(body) -> list[tuple[int, str]]:
        found = []
        for verb in front.VERBS:
            monkeypatch.setattr(front.Verbs, "get_command", lambda *_: click.command()(body))
            monkeypatch.setattr(sys, "argv", ["suites", verb])
            found.append((front.run(), capsys.readouterr().err))
        return found

    return end


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("boom"),
        MemoryError("no room"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        EOFError("no more"),  # click takes it for an interrupt
        OSError(errno.EPIPE, "a worker's pipe broke"),  # and this one for `| head`, with status 1
        OSError(errno.ENOSPC, "some file"),
        SystemExit(1),
    ],
    ids=repr,
)
def test_a_crash_has_a_status_of_its_own_in_every_verb(ending, error) -> None:
    def body() -> None:
        raise error

    for status, said in ending(body):
        assert status == 70
        assert "Traceback" in said
        assert "a fault of the suite and not of your input" in said


def test_a_verb_that_cannot_be_imported_has_crashed(monkeypatch, capsys) -> None:
    def broken(name: str) -> None:
        raise ImportError("no module named torch")

    monkeypatch.setattr(front.importlib, "import_module", broken)
    monkeypatch.setattr(sys, "argv", ["suites", "compare", "a", "b"])
    assert front.run() == 70
    assert "no module named torch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("package", "verb"),
    [("click", "claims"), ("pandas", "claims"), ("scipy", "claims"), ("torch", "list")],
)
def test_a_package_that_is_missing_is_named(package: str, verb: str) -> None:
    """Whatever imports it first; no traceback, and the command that brings it."""
    program = (
        f"import runpy, sys; sys.modules[{package!r}] = None; sys.argv = ['suites', {verb!r}]; "
        "runpy.run_module('suites', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: the suites need the package {package}, ")
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_of_ours_that_is_missing_is_a_fault(ending) -> None:
    def body() -> None:
        raise ModuleNotFoundError("no module named 'suites.gone'", name="suites.gone")

    assert {status for status, _ in ending(body)} == {70}


@pytest.mark.parametrize(
    ("error", "status"),
    [(UserError("wrong"), 2), (click.UsageError("wrong"), 2), (KeyboardInterrupt(), 130)],
    ids=repr,
)
def test_other_ends(ending, error, status: int) -> None:
    def body() -> None:
        raise error

    assert {found for found, _ in ending(body)} == {status}


@pytest.mark.parametrize("result", [0, 1, 3, 4])
def test_a_result_keeps_its_status(ending, result: int) -> None:
    assert {found for found, _ in ending(lambda: result)} == {result}


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_device_is_told(unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "suites", "--help"],
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 74, done.stderr
    assert done.stderr == "error: the output could not be written: No space left on device\n"


def test_a_reader_that_leaves_is_no_result() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "suites", "--help"], cwd=ROOT, stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (74, b"")


def test_version(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["suites", "--version"])
    assert front.run() == 0
    assert str(ROOT) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "2 × 3 → é … σ 中"),
        ("latin-1", "2 × 3 -> é ... sigma ?"),
        ("ascii", "2 x 3 -> e ... sigma ?"),
    ],
)
def test_any_encoding_carries_what_is_printed(monkeypatch, encoding: str, shown: str) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    make_legible()
    assert sys.stdout.errors == LEGIBLE
    sys.stdout.write("2 × 3 → é … σ 中")
    sys.stdout.flush()
    assert raw.getvalue().decode(encoding) == shown
