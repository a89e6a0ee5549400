"""`pytest suites/speed/harness` and `python -m suites run`, as a user calls them."""

import getpass
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from suites.errors import UserError
from suites.measure.lock import exclusive
from suites.records.record import Record
from suites.records.store import read
from suites.speed import decode_speed
from suites.speed.harness import bench as bench_module
from suites.speed.harness import command, conftest
from suites.speed.harness.bench import Bench
from suites.speed.harness.replay import Replay

ROOT = Path(__file__).resolve().parents[2]
# Four cells: the copy, the GEMM, and one cell twice.
PAIR = "decode_speed and T1-D256 and dense"


@pytest.fixture
def call(tmp_path):
    """Runs a module as a user does, with locks of its own, on a machine that may be busy."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {"TMPDIR": str(tmp_path), "PYTEST_ADDOPTS": "-p tests.speed.undisturbed"}
        return called(*arguments, **own | environment)

    return run


def called(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        text=True,
        capture_output=True,
        timeout=120,
    )


def test_pytest_benchmark_saves_the_samples_and_the_records(call, tmp_path):
    saved = tmp_path / "benchmark.json"
    done = call(
        "pytest", "suites/speed/harness", "--benchmark-only", "-k", PAIR, "--results", tmp_path,
        "--benchmark-json", saved, "--benchmark-save-data", "-p", "no:cacheprovider",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
    assert "Name (time in" in done.stdout
    records = {
        record.case_id: record
        for path in tmp_path.rglob("scratch/**/*.json")
        for record in read(path).records
    }
    report = json.loads(saved.read_text())
    assert len(report["benchmarks"]) == len(records) == 4
    assert report["machine_info"]["environment"]["packages"]["torch"]
    for benchmark in report["benchmarks"]:
        record = records[Record(case=benchmark["extra_info"]["case"], status="ok").case_id]
        assert benchmark["stats"]["data"] == pytest.approx(record.series["seconds"])
        assert benchmark["stats"]["median"] == pytest.approx(record.metrics["median_s"])
    timed = [record for record in records.values() if record.case["layer"] == "dense"]
    assert sorted(record.case["repeat"] for record in timed) == [0, 1]
    assert all(record.metrics["time_over_floor"] > 0 for record in timed)


def test_run_prints_and_writes_the_table(call, tmp_path):
    done = call("suites", "run", "decode_speed", "-k", "T1-D256 and dense", "--results", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# decode_speed, profile tiny" in done.stdout
    assert "4 ok; records" in done.stdout
    folder = next(tmp_path.rglob("table.md")).parent
    assert (folder / "roofline.svg").exists()
    assert (folder / "table.csv").exists()


def test_a_filter_without_cells_is_one_sentence():
    with pytest.raises(UserError, match="no cell of decode_speed matches -k 'no_such_cell'"):
        command.require_cells(command.Listener(), "decode_speed", "no_such_cell")


@pytest.mark.parametrize(
    ("profile", "said"),
    [("huge", "no profile 'huge'; it has tiny, small"), ("small", "needs a CUDA device")],
)
def test_an_impossible_profile_is_refused_before_anything_runs(monkeypatch, profile, said):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match=said):
        decode_speed.command.main(["--profile", profile], standalone_mode=False)


def test_dry_run_lists_and_measures_nothing(call, tmp_path):
    done = call(
        "suites", "run", "layer_speed", "--profile", "small", "--dry-run", "--results", tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "layer_speed-peer-auto-training_step-T8192-D1024-N1024x1024" in done.stdout
    assert "cells, about" in done.stdout
    assert list(tmp_path.rglob("*.json")) == []


def test_an_interrupted_run_keeps_what_it_finished(cell, tmp_path, monkeypatch):
    cells = [cell.model_copy(update={"tokens": tokens}) for tokens in (1, 2, 3)]
    measured = []

    def measure(cell, *_):
        if cell.tokens == 3 and len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(cell.tokens)
        status = "ok" if cell.tokens == 1 else "error"
        return Record(case=cell.model_dump(mode="json"), status=status, reason="why")

    monkeypatch.setattr(bench_module, "measure", measure)
    stopped = Bench("tiny", "cpu", resume=True, results=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        [stopped.record(one, []) for one in cells]
    resumed = Bench("tiny", "cpu", resume=True, results=tmp_path)
    statuses = [resumed.record(one, []).status for one in cells]
    # the finished cell is read; the failed one is tried again
    assert measured == [1, 2, 2, 3]
    assert statuses == ["ok", "error", "error"]
    assert len(resumed.written) == 3


def test_no_roof_without_its_controls(cell, tmp_path):
    assert Bench("tiny", "cpu", resume=False, results=tmp_path).roof(cell, []) is None


@pytest.mark.parametrize("status", ["oom", "invalid", "error", "skipped"])
def test_resume_keeps_only_what_was_measured(cell, tmp_path, monkeypatch, status):
    """Out of memory may have been another process's doing, as a busy processor is."""
    statuses = iter([status, "ok"])

    def attempt(self, cell, roof):
        return Record(case=cell.model_dump(mode="json"), status=next(statuses), reason="why")

    monkeypatch.setattr(Bench, "attempt", attempt)
    found = [
        Bench("tiny", "cpu", resume=True, results=tmp_path).record(cell, []).status
        for _ in range(3)
    ]
    assert found == [status, "ok", "ok"]


def test_a_second_bench_on_the_same_processors_is_refused(call, tmp_path):
    with exclusive("CPU", tmp_path):
        done = call(
            "suites", "run", "decode_speed", "-k", "T1-D256 and dense", "--results", tmp_path
        )
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"error: CPU is in use by {getpass.getuser()}, process {os.getpid()}" in done.stderr
    assert list(tmp_path.rglob("*.json")) == []


@pytest.mark.parametrize(
    ("plugin", "status", "said"),
    [
        ("def pytest_runtest_setup(): raise RuntimeError('boom')", 70, "RuntimeError: boom"),
        ("def pytest_runtestloop(): raise RuntimeError('boom')", 70, "RuntimeError: boom"),
        (
            "import suites.errors as e\ndef pytest_runtest_setup(): raise e.UserError('full disk')",
            2,
            "error: full disk",
        ),
    ],
    ids=["in a cell", "between cells", "a user's error"],
)
def test_a_crash_of_the_harness_is_no_recorded_failure(call, tmp_path, plugin, status, said):
    """With status 1 it would read as one, and as nothing at all where other cells were measured."""
    (tmp_path / "breaking.py").write_text(plugin)
    done = call(
        "suites", "run", "decode_speed", "-k", "T1-D256 and dense", "--results", tmp_path,
        PYTEST_ADDOPTS="-p breaking", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}",
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stderr


@pytest.mark.parametrize(
    ("words", "options", "status"),
    [
        (["pytest", "suites/speed/harness", "-n", "2", "-k", PAIR], "", 4),
        (["suites", "run", "decode_speed"], "-n 2", 2),
    ],
    ids=["pytest", "run"],
)
def test_processes_that_would_time_each_other_are_refused(call, tmp_path, words, options, status):
    done = call(*words, "--results", tmp_path, PYTEST_ADDOPTS=options)
    assert done.returncode == status, done.stdout + done.stderr
    assert "speed suites time one cell after another" in done.stderr
    assert list(tmp_path.rglob("*.json")) == []


def test_replay_gives_pytest_benchmark_one_sample_per_round():
    clock = Replay()
    clock.load([0.25, 0.5])
    rounds = []
    for _ in range(2):
        start = clock.now()
        clock.advance()
        rounds.append(clock.now() - start)
    assert rounds == [0.25, 0.5]


def test_every_suite_is_offered():
    assert {cell.suite for cell in conftest.selected("tiny", None)} == set(conftest.SPEED_SUITES)
