"""Small records, and a repository of empty commits for them to belong to."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from suites.__main__ import run
from suites.records.record import Code, Environment, Record, ResultFile
from suites.records.store import Store, write

LOSSES = {"dense": (1.80, 1.82, 1.81), "peer": (1.70, 1.71, 1.72)}


class Lab:
    """A scratch repository with results; `measure` writes a record of one of its commits."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(root / "results")
        self.git("init", "--quiet", "--initial-branch", "main")

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(
            ["git", "-C", str(self.root), *identity, *arguments],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, subject: str = "change") -> str:
        self.git("commit", "--quiet", "--allow-empty", "--message", subject)
        return self.git("rev-parse", "HEAD")

    def measure(self, commit: str, records: list[Record] | None = None, **changes) -> Path:
        results = result_file(commit, records, **changes)
        path = self.store.published_path(results)
        write(path, results)
        return path


def environment(**changes) -> Environment:
    fields = {
        "platform": "Linux x86_64",
        "cpu": "one",
        "cores": 2,
        "memory_bytes": 10**9,
        "gpu": None,
        "python": "3.12.1",
        "packages": {"torch": "2.13.0"},
    }
    return Environment(**fields | changes)


def training_case(layer: str, options: dict, seed: int, budget_flops: float, dim: int = 8) -> dict:
    """The fields of a training case that tables and curves read."""
    return {
        "layer": layer,
        "options": options,
        "sites": [1],
        "budget_flops": budget_flops,
        "seed": seed,
        "optimization": {"learning_rate": 1e-3, "table_rate": 1e-3},
        "batch_sequences": 2,
        "backbone": {"blocks": 2, "dim": dim, "context": 16},
        "text": {"source": "s", "tokenizer": "bytes", "sha256": "c"},
        "device": "cpu",
        "threads": 1,
    }


def training(layer: str, seed: int, loss: float | None, speed: float = 1000.0, **metrics) -> Record:
    """A record of a training run; no loss stands for a run that failed."""
    case = {
        "layer": layer,
        "seed": seed,
        "budget_flops": 5e11,
        "text": {"source": "stdlib"},
    }
    if loss is None:
        return Record(case=case, status="error", reason="it broke")
    numbers = {
        "validation_loss_nats": loss,
        "tokens_per_s": speed * (1 + seed / 1000),
        "forward_flops_per_token": 1000,
    }
    return Record(case=case, status="ok", metrics=numbers | metrics)


def methods(shift: float = 0.0, **changes) -> list[Record]:
    """Two layers, three seeds; `shift` in nats is added to the losses of peer."""
    return [
        training(layer, seed, loss + (shift if layer == "peer" else 0), **changes)
        for layer, losses in LOSSES.items()
        for seed, loss in enumerate(losses)
    ]


def result_file(commit: str, records: list[Record] | None = None, **changes) -> ResultFile:
    fields = {
        "suite": "methods",
        "profile": "tiny",
        "code": Code(commit=commit, dirty=False, sha256=f"{commit:0<64}"),
        "environment": environment(),
        "records": methods() if records is None else records,
    }
    return ResultFile(**fields | changes)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def verdicts() -> Callable[[list], dict[tuple[str, str], str]]:
    """(cell, metric) → verdict."""
    return lambda rows: {(row.cell, row.metric): row.verdict for row in rows}


class Done(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Runs a verb in this process, as `python -m suites` would."""

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["suites", *map(str, arguments)])
        status = run()
        return Done(status, *capsys.readouterr())

    return call
