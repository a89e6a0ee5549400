"""Tables from records alone: byte for byte, without torch, and no table without a record."""

import subprocess
import sys
from pathlib import Path

import pytest

from suites.records.record import Record
from tests.lab import LOSSES, Lab

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_TORCH = ("-m", "tests.without_torch", "suites")


def trained(layer: str, seed: int, loss: float) -> Record:
    rates = {"learning_rate": 3e-3, "table_rate": 1e-2}
    text = {"source": "stdlib", "tokenizer": "bytes", "sha256": "0" * 64}
    case = {"layer": layer, "seed": seed, "budget_flops": 5e11, "text": text, "options": {}}
    case |= {"optimization": rates, "sites": [2], "threads": 1, "device": "cpu"}
    metrics = dict.fromkeys(
        ("parameters", "active_parameters", "forward_flops_per_token", "tokens", "peak_bytes"), 1000
    )
    metrics |= {"training_flops": 5e11, "tokens_per_s": 1e3, "evaluation_tokens": 100}
    metrics |= {"validation_loss_nats": loss, "validation_perplexity": 2.0}
    return Record(case=case, status="ok", metrics=metrics | {"validation_bits_per_byte": 2.0})


def tables(results: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *WITHOUT_TORCH, "tables", "--results", str(results), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def results(lab: Lab) -> Path:
    runs = [trained(layer, s, loss) for layer in LOSSES for s, loss in enumerate(LOSSES[layer])]
    lab.measure(lab.commit(), runs)
    done = tables(lab.store.root)
    assert done.returncode == 0, done.stderr
    return lab.store.root


def test_tables_are_reproduced_without_torch(results: Path) -> None:
    done = tables(results, "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_difference_is_found(results: Path) -> None:
    table = results / "tables" / "methods-tiny.md"
    table.write_text(table.read_text() + "\n")
    (results / "tables" / "orphan.md").write_text("| a |")
    done = tables(results, "--check")
    assert done.returncode == 1
    assert "methods-tiny.md differs from what its records give" in done.stdout
    assert "orphan.md comes from no record" in done.stdout


def test_no_records_is_an_error(tmp_path: Path) -> None:
    done = tables(tmp_path, "--check")
    assert done.returncode == 2
    assert "no records under" in done.stderr
