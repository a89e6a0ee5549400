"""A run killed at any moment ends with the bits of one that was never killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from suites.errors import UserError
from suites.language_model.case import Backbone, Optimization, TrainingCase
from suites.language_model.checkpoint import Checkpoint
from suites.layers import resolve_options
from suites.sweep.pool import messages
from suites.text.corpus import Corpus, prepare
from suites.text.sources import StandardLibrary
from suites.text.tokenizer import Bytes

ROOT = Path(__file__).resolve().parents[2]
TIMES = ("train_s", "tokens_per_s", "peak_bytes")


@pytest.fixture
def corpus(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    monkeypatch.setenv("PEER_SUITE_CACHE", str(cache))
    return prepare(StandardLibrary(), None, Bytes())


def worker(corpus: Corpus, checkpoint: Path, interval_s: float = 0) -> subprocess.Popen:
    """A worker that writes its checkpoint at every report, if no interval is given."""
    case = TrainingCase(
        layer="peer",
        options=resolve_options("peer", {"experts": 256, "dim_key": 16}),
        sites=(1,),
        backbone=Backbone(blocks=2, dim=32, attention_heads=2, context=32),
        optimization=Optimization(learning_rate=5e-3, table_rate=1e-2),
        budget_flops=2e10,
        batch_sequences=8,
        evaluation_tokens=4096,
        text=corpus.text(),
        seed=0,
        device="cpu",
        threads=1,
    )
    child = subprocess.Popen(
        [sys.executable, "-m", "suites.sweep.worker", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert child.stdin is not None
    job = {"case": case.model_dump(mode="json"), "corpus": str(corpus.folder), "sets": []}
    times = {"checkpoint": str(checkpoint), "checkpoint_interval_s": interval_s}
    json.dump(job | times, child.stdin)
    child.stdin.close()
    return child


def result(child: subprocess.Popen) -> tuple[dict, list[int]]:
    """The record without times, and the steps that were reported."""
    with child:
        assert child.stdout is not None
        *reports, last, ended = messages(child.stdout)
    assert (child.returncode, ended["ended"]) == (0, 0)
    record = last["record"]
    assert record["status"] == "ok", record["reason"]
    for name in TIMES:
        record["metrics"].pop(name)
    return record, [report["step"] for report in reports]


def test_a_killed_run_continues_bit_for_bit(corpus: Corpus, tmp_path: Path) -> None:
    whole, _ = result(worker(corpus, tmp_path / "whole.checkpoint"))
    path = tmp_path / "killed.checkpoint"
    for _ in range(2):
        written = path.stat().st_mtime_ns if path.exists() else 0
        deadline = time.monotonic() + 60
        with worker(corpus, path) as child:
            while not path.exists() or path.stat().st_mtime_ns == written:
                assert child.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.005)
            time.sleep(random.uniform(0, 0.2))
            child.kill()
    done, steps = result(worker(corpus, path))
    assert steps[0] > 1
    assert done == whole


def test_a_run_that_is_told_to_end_saves_what_it_has(corpus: Corpus, tmp_path: Path) -> None:
    """SIGTERM, as a scheduler sends it: no work is lost, however long the interval."""
    whole, _ = result(worker(corpus, tmp_path / "whole.checkpoint"))
    path = tmp_path / "ended.checkpoint"
    with worker(corpus, path, interval_s=3600) as child:
        assert child.stdout is not None
        assert '"step": 1,' in child.stdout.readline()
        child.terminate()
        last = list(messages(child.stdout))[-1]
    assert last == {"ended": 128 + signal.SIGTERM, "last": "no message"}
    assert [one.name for one in tmp_path.glob("*ended*")] == [path.name]
    done, steps = result(worker(corpus, path, interval_s=3600))
    assert steps[0] > 1
    assert done == whole


def test_a_worker_without_a_run_ends_at_once() -> None:
    words = [sys.executable, "-m", "suites.sweep.worker", str(os.getpid())]
    with subprocess.Popen(words, stdin=subprocess.PIPE, cwd=ROOT) as child:
        time.sleep(0.2)
        child.terminate()
        assert child.wait(30) in (-signal.SIGTERM, 128 + signal.SIGTERM)


def test_a_checkpoint_is_due_after_its_interval_and_seldom_when_it_takes_long(
    tmp_path: Path,
) -> None:
    checkpoint = Checkpoint(tmp_path / "run.checkpoint", interval_s=60)
    assert not checkpoint.due()
    checkpoint.last -= 61
    assert checkpoint.due()
    checkpoint.write_s = 30.0
    assert not checkpoint.due()


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run.checkpoint", interval_s=0)
    assert checkpoint.load() is None
    checkpoint.save({"step": torch.tensor(3)})
    assert checkpoint.load() == {"step": torch.tensor(3)}
    assert [path.name for path in tmp_path.iterdir()] == ["run.checkpoint"]
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:50])
    with pytest.raises(UserError, match=r"run\.checkpoint cannot be read"):
        checkpoint.load()
