"""Runs training cases, several at a time, and keeps each record the moment it exists."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from tqdm import tqdm

from suites.errors import UserError
from suites.language_model.case import TrainingCase
from suites.language_model.corpus import Corpus
from suites.language_model.evaluations import Prepared
from suites.language_model.train import dump
from suites.measure.environment import ROOT, code, environment
from suites.records.record import Record, ResultFile, digest
from suites.records.store import Store, read, write

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
        """Writes the record; a final one has no use for its checkpoint."""
        write(self.path(case), self.file("runs", "shared", [record]))
        if record.status in FINAL:
            self.checkpoint(case).unlink(missing_ok=True)

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


def run_cases(
    runs: Runs,
    cases: list[TrainingCase],
    texts: Texts,
    jobs: int,
    what: str,
    checkpoint_interval_s: float,
) -> None:
    """Runs what has no final record yet, `jobs` processes at a time, in the order of `cases`."""
    todo = [case for case in cases if not runs.finished(case)]
    if len(todo) < len(cases):
        tqdm.write(f"{len(cases) - len(todo)} of {len(cases)} runs exist already", sys.stderr)
    slots: SimpleQueue[int] = SimpleQueue()
    for slot in range(jobs):
        slots.put(slot + 1)
    children: set[subprocess.Popen] = set()
    stop = threading.Event()

    def one(case: TrainingCase) -> tuple[TrainingCase, Record] | None:
        slot = slots.get()
        try:
            job = {
                "case": dump(case),
                "corpus": str(texts.corpus.folder),
                "sets": [str(prepared.folder) for prepared in texts.sets],
                "checkpoint": str(runs.checkpoint(case)),
                "checkpoint_interval_s": checkpoint_interval_s,
            }
            return None if stop.is_set() else (case, execute(case, job, children, slot))
        finally:
            slots.put(slot)

    with (
        tqdm(total=len(todo), desc=what, unit="run", disable=None) as bar,
        ThreadPoolExecutor(jobs) as pool,
        terminated(children, stop),
    ):
        for future in as_completed([pool.submit(one, case) for case in todo]):
            if (done := future.result()) is not None:
                runs.keep(*done)
                bar.update()
                tqdm.write(summary(*done), sys.stderr)


@contextmanager
def terminated(children: set[subprocess.Popen], stop: threading.Event) -> Iterator[None]:
    """Ends all children when the block is left by an exception, an interrupt above all."""
    try:
        yield
    except BaseException:
        stop.set()
        for child in list(children):
            child.terminate()
        raise


def execute(
    case: TrainingCase, job: dict[str, Any], children: set[subprocess.Popen], slot: int
) -> Record:
    """One worker process; a worker that dies without a record leaves one that says how."""
    child = subprocess.Popen(
        [sys.executable, "-m", "suites.language_model.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    children.add(child)
    errors: list[str] = []
    drain = threading.Thread(target=errors.extend, args=(child.stderr,), daemon=True)
    drain.start()
    record = None
    try:
        child.stdin.write(json.dumps(job))
        child.stdin.close()
        with tqdm(desc=name(case), unit="step", position=slot, leave=False, disable=None) as bar:
            for line in child.stdout:
                message = json.loads(line)
                if "record" in message:
                    record = Record.model_validate(message["record"])
                else:
                    bar.total = message["steps"]
                    bar.set_postfix_str(
                        f"loss {float(message['loss']):.3f}, {message['tokens_per_s']:,.0f} tokens/s"
                    )
                    bar.update(message["step"] - bar.n)
    except BrokenPipeError:
        pass  # the child died before it read its case; its exit status says why
    status = child.wait()
    drain.join()
    children.discard(child)
    if record is not None:
        return record
    last = errors[-1].strip() if errors else "no message"
    if status == -9:
        return Record(
            case=dump(case), status="oom", reason="killed by the system, most often for memory"
        )
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
