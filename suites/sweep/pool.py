"""Runs training cases, several at a time, and keeps each record the moment it exists."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import psutil
from tqdm import tqdm

from suites.errors import UserError
from suites.language_model.case import TrainingCase
from suites.language_model.train import dump
from suites.measure.environment import ROOT, code, environment
from suites.records.record import Record, ResultFile, digest
from suites.records.store import Store, read, write
from suites.text.corpus import Corpus
from suites.text.evaluations import Prepared

FINAL = ("ok", "diverged")  # the same code gives these again; other ends are worth another try


class Runs:
    """The training runs that this code makes on this machine, one scratch file per case.

    A run is addressed by its case alone, so what one suite made another finds.
    """

    def __init__(self, store: Store) -> None:
        self.code, self.environment = code(), environment()
        self.folder = store.runs(self.code, self.environment)

    def path(self, case: TrainingCase) -> Path:
        return self.folder / f"{digest(dump(case))[:16]}.json"

    def finished(self, case: TrainingCase) -> bool:
        path = self.path(case)
        return path.exists() and read(path).records[0].status in FINAL

    def checkpoint(self, case: TrainingCase) -> Path:
        return self.path(case).with_suffix(".checkpoint")

    def keep(self, case: TrainingCase, record: Record) -> None:
        """Writes the record; a final one has no use for its checkpoint, and only such replaces another."""
        if record.status not in FINAL and self.finished(case):
            return  # by another sweep on this folder
        write(self.path(case), self.file("runs", "shared", [record]))
        if record.status in FINAL:
            path = self.checkpoint(case)
            path.unlink(missing_ok=True)
            for half in path.parent.glob(f".{path.name}.*"):
                if not psutil.pid_exists(int(half.suffix[1:])):  # killed while it wrote
                    half.unlink(missing_ok=True)

    def results(self, suite: str, profile: str, cases: list[TrainingCase]) -> ResultFile:
        """The records of those `cases` that have one, in their order, as a file of `suite`.

        Its commit is the present one: runs of other commits in this folder had the same sources.
        """
        files = [read(self.path(case)) for case in cases if self.path(case).exists()]
        if not files:
            raise UserError(f"no record of {suite}, profile {profile}, in {self.folder}")
        return self.file(suite, profile, [record for file in files for record in file.records])

    def file(self, suite: str, profile: str, records: list[Record]) -> ResultFile:
        return ResultFile(
            suite=suite,
            profile=profile,
            code=self.code,
            environment=self.environment,
            records=records,
        )


class Texts(NamedTuple):
    """What workers read: the corpus, and the evaluation sets of the cases in their order."""

    corpus: Corpus
    sets: list[Prepared]


class Crew:
    """The worker processes of one or several sweeps: to start one takes longer than a small run.

    It waits for them when it is left, and a sweep that an exception ends, an interrupt above all, ends them.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.workers: list[Worker] = []

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.close()

    def of(self, number: int) -> list["Worker"]:
        """So many of them, started by this thread: they die with the one that started them."""
        while len(self.workers) < number:
            self.workers.append(Worker(len(self.workers) + 1, self.stop))
        for worker in self.workers[:number]:
            worker.started()
        return self.workers[:number]

    def end(self) -> None:
        self.stop.set()
        for worker in self.workers:
            worker.terminate()


def run_cases(
    crew: Crew,
    runs: Runs,
    cases: list[TrainingCase],
    texts: Texts,
    jobs: int,
    what: str,
    checkpoint_interval_s: float,
) -> None:
    """Runs what has no final record yet, `jobs` processes at a time, in the order of `cases`."""
    runs.folder.mkdir(parents=True, exist_ok=True)  # fails before anything was trained for nothing
    todo = [case for case in cases if not runs.finished(case)]
    if len(todo) < len(cases):
        tqdm.write(f"{len(cases) - len(todo)} of {len(cases)} runs exist already", sys.stderr)
    if not todo:
        return
    jobs = min(jobs, len(todo))
    idle: SimpleQueue[Worker] = SimpleQueue()
    for worker in crew.of(jobs):
        idle.put(worker)

    def one(case: TrainingCase) -> tuple[TrainingCase, Record] | None:
        worker = idle.get()
        try:
            job = {
                "case": dump(case),
                "corpus": str(texts.corpus.folder),
                "sets": [str(prepared.folder) for prepared in texts.sets],
                "checkpoint": str(runs.checkpoint(case)),
                "checkpoint_interval_s": checkpoint_interval_s,
            }
            if runs.finished(case):  # by another sweep, meanwhile
                return case, read(runs.path(case)).records[0]
            return None if crew.stop.is_set() else (case, worker.execute(case, job))
        finally:
            idle.put(worker)

    with (
        tqdm(total=len(todo), desc=what, unit="run", disable=None) as bar,
        ThreadPoolExecutor(jobs) as pool,
        terminated(crew),
    ):
        started_s, spent, count = time.monotonic(), 0.0, 0  # a bar that is not shown counts nothing
        for future in as_completed([pool.submit(one, case) for case in todo]):
            if (done := future.result()) is not None:
                runs.keep(*done)
                bar.update()
                count += 1
                spent += done[0].budget_flops
                left = remaining(time.monotonic() - started_s, spent, todo)
                tqdm.write(f"{summary(*done)}; {count} of {len(todo)} runs, {left}", sys.stderr)


def remaining(passed_s: float, spent_flops: float, todo: list[TrainingCase]) -> str:
    """How long the whole sweep goes on, if FLOPs take as long as they did."""
    left_flops = sum(case.budget_flops for case in todo) - spent_flops
    left_s = passed_s * max(0.0, left_flops) / spent_flops
    return f"about {left_s / 60:,.1f} min left"


@contextmanager
def terminated(crew: Crew) -> Iterator[None]:
    """Ends a crew when the block is left by an exception: threads wait for their workers' answers."""
    try:
        yield
    except BaseException:
        crew.end()
        raise


class Worker:
    """A `suites.sweep.worker` process, started when it is needed and again after its death."""

    def __init__(self, slot: int, stop: threading.Event) -> None:
        self.slot, self.stop = slot, stop
        self.process: subprocess.Popen | None = None

    def started(self) -> subprocess.Popen:
        if self.process is None or self.process.poll() is not None:
            self.close()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "suites.sweep.worker", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                cwd=ROOT,
                env=os.environ | {"PYTHONIOENCODING": "utf-8"},
            )
            if self.stop.is_set():  # the order to end came while it was starting
                self.terminate()
        return self.process

    def terminate(self) -> None:
        if self.process is not None:
            self.process.terminate()

    def close(self) -> None:
        """Waits for a process that has nothing to do any more."""
        if self.process is not None:
            with suppress(BrokenPipeError):
                self.process.communicate()
            self.process = None

    def execute(self, case: TrainingCase, job: dict[str, Any]) -> Record:
        """One job; a process that dies without a record leaves one that says how."""
        process = self.started()
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        record, before = None, memory_kills()
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it died before it read the job; its exit status says why
        with tqdm(
            desc=name(case), unit="step", position=self.slot, leave=False, disable=None
        ) as bar:
            for message in messages(process.stdout):
                if "record" in message:
                    record = Record.model_validate(message["record"])
                elif "ended" in message:
                    return record or lost(case, message["ended"], message["last"], before)
                else:
                    bar.total = message["steps"]
                    bar.set_postfix_str(
                        f"loss {float(message['loss']):.3f}, {message['tokens_per_s']:,.0f} tokens/s"
                    )
                    bar.update(message["step"] - bar.n)
        status = process.wait()
        lines = process.stderr.read().strip().splitlines() or ["no message"]
        return record or lost(case, status, lines[-1], before)


def messages(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Those that are whole: a kill may cut one off."""
    for line in lines:
        with suppress(ValueError):
            yield json.loads(line)


def memory_kills() -> int | None:
    """How many processes this machine's kernel has killed for memory; None where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def lost(case: TrainingCase, status: int, last: str, before: int | None) -> Record:
    """The record of a process that ended without one; `before` are the kernel's kills until it began."""
    if status == -signal.SIGKILL:
        now = memory_kills()
        if before is None or now is None:
            reason = "killed, most often for memory; this system does not say"
        elif now > before:
            reason = "killed by the kernel for memory"
        else:
            return Record(
                case=dump(case),
                status="error",
                reason="killed by SIGKILL, and not by the kernel for memory",
            )
        return Record(case=dump(case), status="oom", reason=reason)
    return Record(case=dump(case), status="error", reason=f"worker ended with {status}: {last}")


def name(case: TrainingCase) -> str:
    backbone = case.backbone
    return (
        f"{case.layer} in {backbone.blocks} × {backbone.dim} at {case.budget_flops:.0e} FLOPs, "
        f"seed {case.seed}"
    )


def summary(case: TrainingCase, record: Record) -> str:
    if record.status != "ok":
        return f"{name(case)}: {record.status}, {record.reason}"
    metrics = record.metrics
    return (
        f"{name(case)}: validation loss {metrics['validation_loss_nats']:.4f} nats after "
        f"{metrics['tokens']:,} tokens in {metrics['train_s']:.0f} s"
    )
