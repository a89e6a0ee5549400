"""Runs training cases on this machine, several at a time, and keeps each record the moment it exists."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tqdm import tqdm

from suites.language_model.case import TrainingCase
from suites.language_model.train import dump
from suites.measure.environment import ROOT
from suites.records.record import Record, ResultFile
from suites.records.store import read
from suites.sweep.place import Done, Texts, name
from suites.sweep.runs import Runs


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


class Here:
    """Runs cases on this machine, `jobs` of a crew's workers at a time."""

    def __init__(
        self, crew: Crew, runs: Runs, texts: Texts, jobs: int, checkpoint_interval_s: float
    ) -> None:
        self.crew, self.runs, self.texts, self.jobs = crew, runs, texts, jobs
        self.checkpoint_interval_s = checkpoint_interval_s

    def finished(self, case: TrainingCase) -> bool:
        return self.runs.finished(case)

    def completed(self, cases: list[TrainingCase]) -> Generator[Done, None, None]:
        """Runs `cases` in their order, which all have no final record; each is kept before it is given."""
        self.runs.folder.mkdir(
            parents=True, exist_ok=True
        )  # before anything is trained for nothing
        jobs = min(self.jobs, len(cases))
        idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self.crew.of(jobs):
            idle.put(worker)

        def one(case: TrainingCase) -> Done | None:
            worker = idle.get()
            try:
                if self.finished(case):  # by another sweep, meanwhile
                    return Done(case, read(self.runs.path(case)).records[0])
                if self.crew.stop.is_set():
                    return None
                return Done(case, worker.execute(case, self.job(case)))
            finally:
                idle.put(worker)

        with ThreadPoolExecutor(jobs) as pool, terminated(self.crew):
            for future in as_completed([pool.submit(one, case) for case in cases]):
                if (done := future.result()) is not None:
                    self.runs.keep(*done)
                    yield done

    def job(self, case: TrainingCase) -> dict[str, Any]:
        """What a worker reads."""
        return {
            "case": dump(case),
            "corpus": str(self.texts.corpus),
            "sets": [str(folder) for folder in self.texts.sets],
            "checkpoint": str(self.runs.checkpoint(case)),
            "checkpoint_interval_s": self.checkpoint_interval_s,
        }

    def results(self, suite: str, profile: str, cases: list[TrainingCase]) -> list[ResultFile]:
        """One file: all is of one machine."""
        return [self.runs.results(suite, profile, cases)]


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
