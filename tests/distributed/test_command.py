"""`torchrun -m suites train` and `python -m suites plan` as a user calls them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from peer.sharded import SHARDINGS, wire
from suites.distributed.plan import numbers_of
from suites.errors import UserError
from suites.records.store import read

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ("train", "methods", "--profile", "smoke")


@pytest.fixture
def torchrun(cache: Path, tmp_path: Path) -> Callable[..., subprocess.Popen]:
    """Starts `torchrun … -m suites …` in a process group of its own, with results in the test's folder."""

    def start(ranks: int, *arguments: str) -> subprocess.Popen:
        words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        return subprocess.Popen(
            [sys.executable, *words, "-m", "suites", *arguments, "--results", str(tmp_path)],
            cwd=ROOT,
            env=os.environ | {"PEER_SUITE_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def records(folder: Path) -> list[Path]:
    return list(folder.glob("scratch/runs/*/*.json"))


def test_a_layer_is_trained_over_two_and_its_record_kept(torchrun, tmp_path: Path) -> None:
    words = (*TRAIN, "--layer", "pkm", "--budget", "1e9", "--json")
    out, err = (done := torchrun(2, *words)).communicate(timeout=200)
    assert done.returncode == 0, err
    found = json.loads(out)  # of one process alone
    (said,) = found["said"]
    assert (said["ranks"], said["sharding"], said["status"]) == (2, "columns", "ok")
    (path,) = records(tmp_path)
    (record,) = read(path).records
    assert (record.case["ranks"], record.case["sharding"]) == (2, "columns")
    assert not list(path.parent.glob("*.parts"))

    written = path.stat().st_mtime_ns
    out, _ = torchrun(2, *words).communicate(timeout=200)
    assert json.loads(out)["said"] == [said]  # finished: not run again
    assert path.stat().st_mtime_ns == written


def test_a_process_that_is_lost_ends_the_run_which_then_goes_on(torchrun, tmp_path: Path) -> None:
    words = (*TRAIN, "--layer", "peer", "--budget", "1e10", "--checkpoint-interval", "0")
    running = torchrun(2, *words)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("scratch/runs/*/*.parts/run.checkpoint")):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = {
        child.environ().get("RANK"): child for child in psutil.Process(running.pid).children()
    }
    os.kill(workers["1"].pid, signal.SIGKILL)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 1
    assert "exitcode  : -9" in err
    out, err = (again := torchrun(2, *words)).communicate(timeout=200)
    assert again.returncode == 0, err
    assert "2 processes, tables by rows; peer in 2 × 32" in out
    (path,) = records(tmp_path)
    assert read(path).records[0].status == "ok"


def test_a_batch_that_does_not_divide_is_refused(torchrun) -> None:
    _, err = (done := torchrun(3, *TRAIN, "--layer", "peer")).communicate(timeout=100)
    assert done.returncode == 1  # torchrun's own; that of the process stands in its report
    assert "error: 8 sequences of a call, and a batch of 8, must divide by the 3 processes" in err
    assert "exitcode  : 2" in err
    assert err.count("Traceback (most recent call last)") == 1  # torchrun's


def test_one_process_is_the_run_of_the_suite(command, cache, monkeypatch, tmp_path) -> None:
    """To the bit, under the same address."""
    monkeypatch.setenv("PEER_SUITE_CACHE", str(cache))
    where = ("--results", tmp_path)
    assert command(*TRAIN, "--layer", "peer", "--budget", "1e9", *where).status == 0
    (path,) = records(tmp_path)
    (alone,) = read(path).records
    path.unlink()
    run = ("run", "methods", "--profile", "smoke", "--layer", "peer", "--budget", "1e9")
    assert command(*run, *where).status == 0
    (same,) = read(path).records
    assert same.case == alone.case
    assert same.series == alone.series


def test_a_plan_is_what_is_sent(command) -> None:
    """Paper-sized, whose layer's bytes come from `peer.sharded.wire` and whose rates no record has."""
    done = command("plan", "--gpus", "1..8", "--json")
    assert done.status == 0
    (said,) = json.loads(done.out)["said"]
    assert [row["GPUs"] for row in said["rows"]] == [1, 2, 4, 8]
    assert "assumed" in said["says"]
    for row in said["rows"][1:]:
        for sharding in SHARDINGS:
            given = {"ranks": row["GPUs"], "tokens": 4 * 2048, "pairs": 128, "dim": 1024, "dots": 1}
            sent = wire(sharding, **given).total_bytes
            assert row[f"by {sharding} MB"] == pytest.approx(sent / 1e6)
        assert row["sharding"] == "columns"
        assert {"compute ms (assumed)", "sending ms (assumed)"} <= row.keys()
    first, last = said["rows"][0], said["rows"][-1]
    for part in ("weights GiB", "gradients GiB", "moments GiB"):
        assert first[part] == pytest.approx(8 * last[part])
    # 2 tables of 1024² · 1024 numbers, twice 4 bytes of each.
    assert first["moments GiB"] > 16
    assert first["moments GiB"] == pytest.approx(2 * first["weights GiB"])


def test_rows_win_where_pairs_are_many_and_rows_narrow(command) -> None:
    """P = 128 against 2·D·(R − 1)/R: 64 and 96 at D = 64, 128 and 192 at D = 128."""
    for dim, wanted in ((64, ["–", "rows", "rows"]), (128, ["–", "columns", "columns"])):
        done = command("plan", "--dim", dim, "--gpus", "1,2,4", "--json")
        (said,) = json.loads(done.out)["said"]
        assert [row["sharding"] for row in said["rows"]] == wanted, dim


def test_what_divides_neither_way_has_no_numbers(command) -> None:
    done = command("plan", "--gpus", "2,7", "--json")
    two, seven = json.loads(done.out)["said"][0]["rows"]
    assert two["all GiB"] > 0
    assert (seven["sharding"], seven["all GiB"]) == ("–", None)


@pytest.mark.parametrize("given", ["", "0", "x", "1..", "-1", "1,,2", str(2**21)])
def test_numbers_of_gpus_that_are_none(given: str) -> None:
    with pytest.raises(UserError, match="--gpus takes 1..1024 for the powers of two between"):
        numbers_of(given)


def test_numbers_of_gpus() -> None:
    assert numbers_of("1..8") == [1, 2, 4, 8]
    assert numbers_of("3..20") == [3, 4, 8, 16, 20]
    assert numbers_of("6,1") == [1, 6]
    assert numbers_of("5") == [5]
