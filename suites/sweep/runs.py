"""Where the training runs that one code makes on one kind of machine lie: a scratch file per case."""

import socket
from pathlib import Path

import psutil

from suites.errors import UserError
from suites.language_model.case import TrainingCase
from suites.language_model.train import dump
from suites.measure.environment import code, environment
from suites.records.record import Environment, Record, ResultFile, digest
from suites.records.store import Store, read, write

FINAL = ("ok", "diverged")  # the same code gives these again; other ends are worth another try


def address(case: TrainingCase) -> str:
    """Of its record, whatever made it."""
    return digest(dump(case))


class Runs:
    """The training runs that this code makes on this machine, or on `machine`, one scratch file per case.

    A run is addressed by its case alone, so what one suite made another finds.
    """

    def __init__(self, store: Store, machine: Environment | None = None) -> None:
        self.code, self.environment = code(), machine or environment()
        self.folder = store.runs(self.code, self.environment)

    def path(self, case: TrainingCase) -> Path:
        return self.folder / f"{address(case)[:16]}.json"

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
                host, _, process = half.name.removeprefix(f".{path.name}.").rpartition(".")
                # Killed while it wrote. Of another host nobody knows; it can be of no use any more.
                if host != socket.gethostname() or not psutil.pid_exists(int(process)):
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
