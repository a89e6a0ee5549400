"""Where cases run, and how one is told what became of them."""

import sys
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, Protocol

from tqdm import tqdm

from suites.language_model.case import TrainingCase
from suites.records.record import Record, ResultFile


class Texts(NamedTuple):
    """Folders that runs read: the corpus, and the evaluation sets of the cases in their order."""

    corpus: Path
    sets: tuple[Path, ...]


class Done(NamedTuple):
    """A case and what became of it."""

    case: TrainingCase
    record: Record


class Place(Protocol):
    """This machine, or the nodes of a cluster."""

    def finished(self, case: TrainingCase) -> bool:
        """Whether there is a record that the same code would give again."""
        ...

    def completed(self, cases: list[TrainingCase]) -> Generator[Done, None, None]:
        """Runs `cases`; gives each when its record is kept, the first that ends first."""
        ...

    def results(self, suite: str, profile: str, cases: list[TrainingCase]) -> list[ResultFile]:
        """The records of those `cases` that have one, a file for each kind of machine."""
        ...


def run_cases(place: Place, cases: list[TrainingCase], what: str) -> bool:
    """Runs what has no final record yet, with progress; whether all of that went well."""
    todo = [case for case in cases if not place.finished(case)]
    if len(todo) < len(cases):
        tqdm.write(f"{len(cases) - len(todo)} of {len(cases)} runs exist already", sys.stderr)
    if not todo:
        return True
    with (
        closing(place.completed(todo)) as running,
        tqdm(total=len(todo), desc=what, unit="run", disable=None) as bar,
    ):
        started_s, spent, well = time.monotonic(), 0.0, True
        for count, (case, record) in enumerate(
            running, 1
        ):  # a bar that is not shown counts nothing
            bar.update()
            spent += case.budget_flops
            well &= record.status == "ok"
            left = remaining(time.monotonic() - started_s, spent, todo)
            tqdm.write(f"{summary(case, record)}; {count} of {len(todo)} runs, {left}", sys.stderr)
    return well


def remaining(passed_s: float, spent_flops: float, todo: list[TrainingCase]) -> str:
    """How long the whole sweep goes on, if FLOPs take as long as they did."""
    left_flops = sum(case.budget_flops for case in todo) - spent_flops
    left_s = passed_s * max(0.0, left_flops) / spent_flops
    return f"about {left_s / 60:,.1f} min left"


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
