"""All trials of a profile, one size after another, until they or the time are at an end."""

import itertools
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from suites.measure.environment import code, environment
from suites.measure.time import timer
from suites.records.record import Record, ResultFile, digest
from suites.records.store import Store, read, write
from suites.tiles.case import Profile, Trial
from suites.tiles.trial import Bench

SUITE = "tiles"


def search(
    profile: Profile,
    name: str,
    device: str,
    store: Store,
    until: float,
    progress: Callable[[str], None],
) -> tuple[list[Record], int]:
    """The records there are now, and how many trials have none; what finished before is read.

    `until` is a time of `time.monotonic`. Trials of one size share their operands.
    """
    now, here, timed_by = code(), environment(), timer(device)
    folder = store.scratch(SUITE, name, now, here)
    trials = list(profile.trials())
    records: list[Record] = []
    for _, group in itertools.groupby(trials, key=lambda trial: trial.size):
        size = list(group)
        earlier = {trial: kept(folder, trial) for trial in size}
        records += [record for record in earlier.values() if record is not None]
        missing = [trial for trial, record in earlier.items() if record is None]
        if not missing or time.monotonic() >= until:
            continue
        torch.manual_seed(0)
        made = bench_or_reason(size[0], device)
        for trial in missing:
            if time.monotonic() >= until:
                break
            progress(trial.name)
            record = made.record(trial, timed_by) if isinstance(made, Bench) else oom(trial, made)
            file = ResultFile(
                suite=SUITE, profile=name, code=now, environment=here, records=[record]
            )
            write(path(folder, trial), file)
            records.append(record)
        del made  # its tables, before the next are made
    return records, len(trials) - len(records)


def bench_or_reason(trial: Trial, device: str) -> Bench | str:
    """Why there is none where its operands do not fit the GPU."""
    try:
        return Bench(trial, device)
    except torch.OutOfMemoryError as error:
        return str(error).splitlines()[0]


def oom(trial: Trial, reason: str) -> Record:
    return Record(case=trial.model_dump(mode="json"), status="oom", reason=reason)


def path(folder: Path, trial: Trial) -> Path:
    return folder / f"{digest(trial.model_dump(mode='json'))}.json"


def kept(folder: Path, trial: Trial) -> Record | None:
    place = path(folder, trial)
    return read(place).records[0] if place.exists() else None


def fastest(records: Iterable[Record]) -> list[tuple[Trial, float, float]]:
    """By size the fastest settings, their median in seconds and that of the counted ones.

    A size whose counted settings were not timed is left out.
    """
    timed: dict[tuple[str, int, int], list[tuple[float, Trial]]] = {}
    for record in records:
        if record.status == "ok":
            trial = Trial.model_validate(record.case)
            seconds = float(str(record.metrics["median_s"]))
            timed.setdefault(trial.size, []).append((seconds, trial))
    found = []
    for times in timed.values():
        counted = [seconds for seconds, trial in times if not trial.settings]
        chosen = [(seconds, trial) for seconds, trial in times if trial.settings]
        if counted and chosen:
            seconds, trial = min(chosen, key=lambda pair: pair[0])
            found.append((trial, seconds, counted[0]))
    return found
