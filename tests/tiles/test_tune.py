"""The tuner, rehearsed on the CPU: what it checks, keeps, refuses and writes."""

import csv
import math

import pytest
import torch

pytest.importorskip("triton")

from peer.kernels import launch, tuned
from suites.measure.time import CpuTimer
from suites.records.record import Record
from suites.records.store import Store
from suites.tiles import search, table
from suites.tiles.case import PROFILES, Trial
from suites.tiles.trial import CALLS, Bench, difference

TRIALS = list(PROFILES["rehearsal"].trials())


def trial(**changes) -> Trial:
    return TRIALS[0].model_copy(update=changes)


@pytest.mark.slow
def test_a_rehearsal_goes_through_every_trial_and_writes_no_table(suites, tmp_path):
    before = tuned.TABLE.read_bytes()
    call = ("tune", "--rehearse", "--results", tmp_path)
    first = suites(*call, environment={"TMPDIR": str(tmp_path)})
    assert first.returncode == 0, first.stderr
    assert f"{len(TRIALS)} tried, 0 not taken, 0 left" in first.stdout
    assert "no table was written" in first.stdout
    assert tuned.TABLE.read_bytes() == before
    records = [record for _, file in Store(tmp_path).files("scratch") for record in file.records]
    assert {record.case["kernel"] for record in records} == set(CALLS)
    again = suites(*call, environment={"TMPDIR": str(tmp_path)})
    assert "UNROLL" not in again.stderr  # nothing is tried twice
    assert f"{len(TRIALS)} tried" in again.stdout


def test_without_a_gpu_it_refuses(suites):
    done = suites("tune")
    assert done.returncode == 2
    assert "torch sees none; --rehearse goes through it on a CPU" in done.stderr


@pytest.mark.parametrize("kernel", CALLS)
def test_a_candidate_with_wrong_results_is_not_taken(kernel):
    size = next(t for t in TRIALS if t.kernel == kernel and t.settings)
    bench = Bench(size, "cpu")
    assert bench.record(size, CpuTimer()).status == "ok"
    *rest, last = bench.wanted
    bench.wanted = (*rest, last + 1)
    record = bench.record(size, CpuTimer())
    assert record.status == "error"
    assert "differ by" in str(record.reason)


def test_a_candidate_that_cannot_run_is_a_record(monkeypatch):
    bench = Bench(TRIALS[0], "cpu")
    monkeypatch.setattr(launch, "fused", lambda *_: 1 / 0)
    record = bench.record(trial(UNROLL=2, num_warps=1), CpuTimer())
    assert (record.status, record.reason) == ("error", "ZeroDivisionError: division by zero")
    assert tuned.tried == {}


def test_differences():
    one = torch.tensor([1.0, -4.0])
    assert difference(one, one) == 0
    assert difference(one + 1, one) == 0.25
    assert math.isnan(difference(one * math.nan, one))
    assert difference(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 9])) == 0.25


def test_the_time_ends_it(tmp_path, monkeypatch):
    records, missing = search.search(
        PROFILES["rehearsal"], "rehearsal", "cpu", Store(tmp_path), 0.0, print
    )
    assert (records, missing) == ([], len(TRIALS))


def test_what_does_not_fit_is_a_record(tmp_path, monkeypatch):
    def full(self, *shape, std=1.0):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    monkeypatch.setattr(Bench, "normal", full)
    profile = PROFILES["rehearsal"]
    records, missing = search.search(
        profile, "rehearsal", "cpu", Store(tmp_path), math.inf, lambda line: None
    )
    assert missing == 0
    assert {record.status for record in records} == {"oom"}
    assert "out of memory" in str(records[0].reason)


def timed(seconds: float, **changes) -> Record:
    case = trial(**changes).model_dump(mode="json")
    return Record(case=case, status="ok", metrics={"median_s": seconds})


def test_the_fastest_beside_the_counted():
    failed = Record(case=trial(UNROLL=8).model_dump(mode="json"), status="error", reason="wrong")
    records = [timed(4.0), timed(2.0, UNROLL=4), timed(3.0, UNROLL=2), failed]
    lonely = timed(1.0, tokens=64, UNROLL=4)  # nothing says that it is faster
    assert search.fastest([*records, lonely]) == [(trial(UNROLL=4), 2.0, 4.0)]


def test_rows_of_other_gpus_are_kept(tmp_path):
    path = tmp_path / "tuned.csv"
    path.write_bytes(tuned.TABLE.read_bytes())
    chosen = trial(dim=200, num_warps=2, UNROLL=8)
    table.rewrite(path, "A", [table.row("A", chosen, 2e-6, 4e-6)])
    table.rewrite(path, "B", [table.row("B", chosen, 3.99e-6, 4e-6)])
    table.rewrite(path, "A", [table.row("A", chosen, 1e-6, 4e-6)])
    text = path.read_text()
    assert text.startswith("# ")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    assert [(row["gpu"], row["columns"], row["UNROLL"], row["us"]) for row in rows] == [
        ("A", "256", "8", "1.0"),
        ("B", "256", "", "4.0"),  # a gain of a quarter percent is none
    ]


@pytest.fixture
def measured(tmp_path, monkeypatch):
    path = tmp_path / "tuned.csv"
    path.write_bytes(tuned.TABLE.read_bytes())
    rows = [
        table.row("A", trial(dim=256, tokens=tokens, num_warps=2, UNROLL=unroll), 1e-6, 2e-6)
        for tokens, unroll in ((1, 2), (1024, 8))
    ]
    table.rewrite(path, "A", rows)
    monkeypatch.setattr(tuned, "TABLE", path)
    for cached in (tuned.table, tuned.nearest):
        cached.cache_clear()
    yield
    for cached in (tuned.table, tuned.nearest):
        cached.cache_clear()


def test_what_was_measured_nearest_is_taken(measured):
    kernel = "fused_experts_kernel"
    assert tuned.nearest(kernel, 256, 5, "A") == {"num_warps": 2, "UNROLL": 2}
    assert tuned.nearest(kernel, 256, 9000, "A") == {"num_warps": 2, "UNROLL": 8}
    assert tuned.nearest(kernel, 512, 9000, "A") == {}
    assert tuned.nearest(kernel, 256, 9000, "B") == {}
    assert tuned.settings(kernel, torch.zeros(3, 256, dtype=torch.bfloat16), 3) == {}  # no GPU
    assert launch.fused(256, 6, {"num_warps": 2, "UNROLL": 4}) == {
        "COLUMNS": 256,
        "num_warps": 2,
        "UNROLL": 2,  # divides P
    }
