"""Sweeps on a real Slurm whose workers are killed, preempted and lost: the records are those of a local run.

Run by `nox -s slurm`; `--profile tiny` makes the disturbed sweep a long one.
"""

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from suites.records.store import read
from tests.slurm.cluster import NODES, Cluster, wait_for

ROOT = Path(__file__).resolve().parents[2]
# What a repetition on one machine does not give again.
MEASURED = {"train_s", "tokens_per_s", "peak_bytes"}
FEW = ("methods", "--profile", "smoke", "--layer", "dense", "--layer", "peer", "--seeds", "2")


class Sweep(NamedTuple):
    """`python -m suites run` with results of its own, on the cluster or here."""

    cluster: Cluster
    cache: Path
    results: Path
    words: tuple[str, ...]

    def start(self, *more: str, slurm: bool = True) -> subprocess.Popen[str]:
        where = ("--executor", "slurm", "--partition", "low") if slurm else ()
        return subprocess.Popen(
            [
                sys.executable, "-m", "suites", "run", *self.words, *where, *more,
                "--results", str(self.results), "--checkpoint-interval", "0",
            ],
            cwd=ROOT,
            env=self.cluster.environment | {"PEER_SUITE_CACHE": str(self.cache)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell that started the tests in the background has them ignore interrupts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip

    def finish(self, *more: str, slurm: bool = True, status: int = 0) -> str:
        """What it says on standard error."""
        process = self.start(*more, slurm=slurm)
        _, errors = process.communicate(timeout=1800)
        assert process.returncode == status, errors[-3000:]
        return errors

    def runs(self) -> dict[str, object]:
        """Case → status and numbers, without times."""
        found: dict[str, object] = {}
        for path in sorted(self.results.glob("scratch/runs/*/*.json")):
            for record in read(path).records:
                assert record.case_id not in found, f"{path} holds a case again"
                metrics = {k: v for k, v in record.metrics.items() if k not in MEASURED}
                found[record.case_id] = (record.status, metrics, record.series)
        return found

    def tables(self) -> list[Path]:
        return sorted(self.results.glob(f"scratch/{self.words[0]}-*/*/records.json"))

    def checkpoints(self) -> list[Path]:
        return sorted(self.results.rglob("*.checkpoint"))

    def trained(self) -> list[psutil.Process]:
        """The processes that train for this sweep on the nodes: each a fork of its task's worker."""
        tasks = [
            process
            for process in psutil.process_iter(["cmdline"])
            if "suites.sweep.task" in (process.info["cmdline"] or [])
            and str(self.results) in " ".join(process.info["cmdline"])
        ]
        return [child for task in tasks for child in task.children(recursive=True)]


@pytest.fixture
def sweep(cluster: Cluster, cache: Path, tmp_path: Path) -> Callable[..., Sweep]:
    def made(name: str, *words: str) -> Sweep:
        return Sweep(cluster, cache, tmp_path / name, words or FEW)

    return made


def test_a_disturbed_sweep_ends_with_the_records_of_a_local_one(
    cluster: Cluster, sweep: Callable[..., Sweep], profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "isoflop",
        "--profile",
        profile,
        "--layer",
        "dense",
        "--layer",
        "pkm",
        "--layer",
        "peer",
    )
    local, far = sweep("local", *words), sweep("far", *words)
    local.finish(slurm=False)
    process = far.start()
    done = []

    wait_for(lambda: bool(far.checkpoints()), "a run with a checkpoint")
    wait_for(lambda: len(far.trained()) > 1, "a process that trains")
    far.trained()[-1].kill()
    done.append("a worker killed")

    cluster.do("scontrol", "update", f"nodename={NODES[0]}", "state=drain", "reason=test")
    wait_for(lambda: cluster.nodes()[NODES[0]] == "DRAINED", "a drained node")
    done.append("a node drained")
    finished = len(far.runs())
    wait_for(lambda: len(far.runs()) > finished, "a run that ends on the other node")
    cluster.do("scontrol", "update", f"nodename={NODES[0]}", "state=resume")

    wait_for(lambda: NODES[0] in " ".join(running(cluster)), "work on both nodes")
    cluster.do("sbatch", "--partition=high", f"--nodelist={NODES[0]}", "--output=/dev/null",
               "--wrap=sleep 5")  # fmt: skip
    wait_for(lambda: "PENDING" in " ".join(cluster.tasks().values()), "a preempted task")
    done.append("a task preempted")

    wait_for(lambda: NODES[1] in " ".join(running(cluster)), "work on the second node")
    cluster.lose(NODES[1])
    wait_for(lambda: cluster.nodes()[NODES[1]].startswith("DOWN"), "a lost node")
    cluster.start(NODES[1])
    done.append("a node lost")

    _, errors = process.communicate(timeout=3600)
    assert process.returncode == 1, errors[-3000:]
    assert "killed by SIGKILL, and not by the kernel for memory" in errors
    said = far.finish()
    assert "runs exist already" in said
    assert far.runs() == local.runs()
    assert far.checkpoints() == []
    (table,), (ours,) = local.tables(), far.tables()
    assert read(table).environment == read(ours).environment
    with capsys.disabled():
        print(f"\n{len(local.runs())} runs, {', '.join(done)}: the records of the local sweep")


def running(cluster: Cluster) -> list[str]:
    return [state for state in cluster.tasks().values() if state.startswith("RUNNING")]


def test_an_interrupt_leaves_the_runs_and_the_same_command_watches_them(
    sweep: Callable[..., Sweep],
) -> None:
    far = sweep("far")
    process = far.start()
    wait_for(lambda: bool(far.trained()), "a task that runs")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "4 runs go on in Slurm" in errors
    said = far.finish()
    assert re.search(r"^[1-4] of these runs wait or run in Slurm already$", said, re.M)
    assert "submitted" not in said
    assert [status for status, *_ in far.runs().values()] == ["ok"] * 4
    again = far.finish()
    assert "4 of 4 runs exist already" in again


def test_a_task_near_its_time_limit_goes_on_in_a_new_turn(
    cluster: Cluster, sweep: Callable[..., Sweep]
) -> None:
    """The signal is that which Slurm sends 90 s before the limit."""
    words = (*FEW[:3], "--layer", "dense", "--seeds", "1")
    local, far = sweep("local", *words), sweep("far", *words)
    local.finish(slurm=False)
    process = far.start()
    wait_for(lambda: bool(far.checkpoints()), "a checkpoint")
    (task,) = [one for one, state in cluster.tasks().items() if state.startswith("RUNNING")]
    cluster.do("scancel", "--signal=USR2", task)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert "Restarts=1" in cluster.do("scontrol", "show", "job", task)
    assert far.runs() == local.runs()


def test_arrays_are_no_longer_than_the_cluster_allows(sweep: Callable[..., Sweep]) -> None:
    far = sweep("far", *FEW[:-1], "3")
    errors = far.finish("--jobs", "1", "--sbatch", "comment=peer")
    assert re.findall(r"submitted (\d) runs", errors) == ["5", "1"]
    scripts = [path.read_text() for path in sorted(far.results.rglob("*_submission.sh"))]
    assert all("#SBATCH --comment=peer\n" in script for script in scripts)
    assert {re.search(r"--array=(\S+)", script)[1] for script in scripts} == {"0-4%1", "0-0%1"}


def test_a_sweep_after_a_job_waits_for_it(cluster: Cluster, sweep: Callable[..., Sweep]) -> None:
    first = cluster.do("sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 20").strip()
    far = sweep("far", *FEW[:3], "--layer", "dense", "--seeds", "1")
    process = far.start("--after", first)
    wait_for(lambda: bool(list(far.results.rglob("*_submission.sh"))), "a submission")
    wait_for(lambda: cluster.tasks()[first].startswith("RUNNING"), "the first job")
    assert not far.trained()
    process.communicate(timeout=300)
    assert process.returncode == 0
    assert cluster.tasks()[first].startswith("COMPLETED")


def test_what_was_cancelled_before_it_ran_has_no_record(
    cluster: Cluster, sweep: Callable[..., Sweep]
) -> None:
    far = sweep("far", *FEW[:3], "--layer", "dense", "--seeds", "1")
    first = cluster.do("sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 300").strip()
    process = far.start("--after", first)
    wait_for(lambda: bool(list(far.results.rglob("*_submission.sh"))), "a submission")
    (script,) = far.results.rglob("*_submission.sh")
    cluster.do("scancel", script.name.split("_")[0], first)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Slurm says CANCELLED of task 0" in errors
    assert far.runs() == {}


def test_sources_that_changed_after_the_submission_are_refused(
    cluster: Cluster, sweep: Callable[..., Sweep]
) -> None:
    far = sweep("far", *FEW[:3], "--layer", "dense", "--seeds", "1")
    first = cluster.do("sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 300").strip()
    process = far.start("--after", first)
    wait_for(lambda: bool(list(far.results.rglob("*_submission.sh"))), "a submission")
    (job,) = far.results.rglob("0.job.json")
    text = job.read_text()
    sha256 = re.search(r'"sources_sha256": "(\w+)"', text)[1]
    job.write_text(text.replace(sha256, "0" * 64))
    cluster.do("scancel", first)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "the sources changed since this was submitted (000000000000, now" in errors
    assert far.runs() == {}


def test_what_sbatch_refuses_is_said(sweep: Callable[..., Sweep]) -> None:
    far = sweep("far")
    said = far.finish("--sbatch", "nodelist=n9", status=2)
    assert "nothing was submitted: sbatch: error: " in said
    assert "Invalid node name" in said
    assert "Traceback" not in said


def test_a_cluster_that_does_not_answer(cluster: Cluster, sweep: Callable[..., Sweep]) -> None:
    nowhere = cluster.folder / "nowhere.conf"
    port = re.search(r"SlurmctldPort=(\d+)", cluster.configuration.read_text())[0]
    nowhere.write_text(cluster.configuration.read_text().replace(port, "SlurmctldPort=1"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cluster.environment, "SLURM_CONF", str(nowhere))
        said = sweep("far").finish(status=2)
    assert "squeue failed" in said
    assert "Traceback" not in said
