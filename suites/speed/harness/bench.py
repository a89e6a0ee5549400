"""A run of speed suites: one device, its roof, its conditions, and the records as they are made."""

import contextlib
from pathlib import Path

import torch

from suites.errors import UserError
from suites.measure.conditions import watch
from suites.measure.environment import code, environment
from suites.measure.memory import available_bytes
from suites.measure.time import timer
from suites.records.record import Record, ResultFile, digest
from suites.records.store import RESULTS, Store, read, write
from suites.speed.cells.case import Cell
from suites.speed.cells.demand import Roof
from suites.speed.harness.estimate import estimate
from suites.speed.harness.prepared import prepare
from suites.speed.harness.samples import measure

ATTEMPTS = 3  # of a cell whose device was throttled or shared


class Bench:
    """Writes a record when a cell is done, so an interrupted run keeps what it finished.

    With `resume`, cells with status ok of the same code and machine are read, not run. Out of memory
    may have been another process's doing.
    """

    def __init__(self, profile: str, device: str, resume: bool, results: Path | None) -> None:
        require(device)
        self.profile, self.resume = profile, resume
        self.store = Store(results or RESULTS)
        self.watch = watch(device)  # first: it tells our process by the context it starts
        self.timer = timer(device)
        self.code, self.environment = code(), environment()
        self.controls: dict[str, Record] = {}
        self.written: list[Path] = []

    def path(self, cell: Cell) -> Path:
        folder = self.store.scratch(cell.suite, self.profile, self.code, self.environment)
        return folder / f"{digest(cell.model_dump(mode='json'))}.json"

    def record(self, cell: Cell, controls: list[Cell]) -> Record:
        """The cell's record, measured now or read; `controls` are its suite's copies and GEMMs."""
        if cell.is_control:
            return self.control(cell)
        if self.resume and self.path(cell).exists():
            earlier = read(self.path(cell)).records[0]
            if earlier.status == "ok":
                self.written.append(self.path(cell))
                return earlier
        return self.write(cell, self.attempt(cell, self.roof(cell, controls)))

    def attempt(self, cell: Cell, roof: Roof | None) -> Record:
        for _ in range(ATTEMPTS):
            record = measure(cell, self.timer, roof, self.watch)
            if record.status != "invalid":
                break
        return record

    def control(self, cell: Cell) -> Record:
        """Measured once in every run."""
        if cell.name not in self.controls:
            self.controls[cell.name] = self.write(cell, self.attempt(cell, None))
        return self.controls[cell.name]

    def roof(self, cell: Cell, controls: list[Cell]) -> Roof | None:
        """From the fastest samples of this run's controls; None, and no floor, when they failed."""
        same = {c.layer: self.control(c) for c in controls if c.dtype == cell.dtype}
        fastest = {layer: min(r.series["seconds"]) for layer, r in same.items() if r.status == "ok"}
        if len(fastest) < 2:
            return None
        return Roof(
            bytes_per_s=float(str(same["copy"].metrics["bytes_moved"])) / fastest["copy"],
            flops_per_s=float(str(same["gemm"].metrics["flops"])) / fastest["gemm"],
        )

    def write(self, cell: Cell, record: Record) -> Record:
        results = ResultFile(
            suite=cell.suite,
            profile=self.profile,
            code=self.code,
            environment=self.environment,
            records=[record],
        )
        write(self.path(cell), results)
        self.written.append(self.path(cell))
        return record

    def prewarm(self, cells: list[Cell]) -> None:
        """Calls every cell once, so that no kernel is compiled or tuned between two timings.

        A failure here is met again, and recorded, when the cell is measured.
        """
        for cell in cells:
            if estimate(cell).bytes <= available_bytes(cell.device):
                with contextlib.suppress(Exception):
                    prepare(cell, self.timer).sample(1)
                torch.cuda.empty_cache()


def require(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "this profile needs a CUDA device and torch sees none; profile tiny runs on a CPU"
        )
