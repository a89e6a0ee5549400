"""Runs tasks one after another until the time is at an end, and keeps what became of each."""

import json
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from suites.gpu.tasks import Task
from suites.measure.environment import ROOT
from suites.records.record import Model
from suites.records.store import write_text

# A stage's share where all have something to say, minutes of thirty; what one leaves the next ones have.
SHARES = {"tests": 5, "sanitizer": 3, "tune": 7, "speed": 9, "counters": 2, "training": 4}
GRACE_S = 15.0  # from an interrupt to a kill: a verb writes what it holds
KEPT = (".json", ".md", ".csv", ".log", ".svg")


class Outcome(Model):
    """ "done" and "failed" are final; "stopped" goes on at the next call, "skipped" is asked again."""

    status: str
    seconds: float = 0.0
    reason: str = ""

    @property
    def final(self) -> bool:
        return self.status in ("done", "failed")


def visit(
    tasks: Iterable[Task],
    folder: Path,
    until: float,
    progress: Callable[[str], None],
    after: Callable[[Task], None] = lambda task: None,
) -> dict[str, Outcome]:
    """Outcomes by a task's key, in order; those final from an earlier call are not run again.

    `until` is a time of `time.monotonic`; no task runs past it. `after` is called when a task ends.
    """
    began, planned = time.monotonic(), list(tasks)
    kept = outcomes(folder)
    found: dict[str, Outcome] = {}
    for task in planned:
        earlier = kept.get(task.key)
        if earlier is not None and earlier.final:
            found[task.key] = earlier
            continue
        now = time.monotonic()
        left = until - now - GRACE_S
        if reason := task.lacks():
            found[task.key] = Outcome(status="skipped", reason=reason)
        elif left < task.least_s:
            reason = f"{max(0.0, left):.0f} s are left, and it wants {task.least_s:.0f}"
            found[task.key] = Outcome(status="skipped", reason=reason)
        else:
            share = ends_at_s(task.stage, until - began) - (now - began)
            at_most_s = min(left, max(share, task.least_s))
            progress(f"{task.key}: {at_most_s:.0f} s at most")
            found[task.key] = run(task, folder, at_most_s)
            after(task)
        keep(folder, kept | found)
    return found


def ends_at_s(stage: str, whole_s: float) -> float:
    """Seconds from the beginning of a visit of `whole_s` by which a stage leaves the rest to others."""
    names = list(SHARES)
    upto = sum(SHARES[name] for name in names[: names.index(stage) + 1])
    return whole_s * upto / sum(SHARES.values())


def run(task: Task, folder: Path, at_most_s: float) -> Outcome:
    """Interrupted at `at_most_s`, killed GRACE_S later; what it prints goes to KEY.log."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [word.replace("{minutes}", f"{at_most_s / 60:.2f}") for word in task.command]
    started = time.monotonic()
    with (folder / f"{task.key}.log").open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | task.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=heed_interrupts,
        )
        try:
            status = process.wait(at_most_s)
        except subprocess.TimeoutExpired:
            end(process)
            seconds = time.monotonic() - started
            return Outcome(status="stopped", seconds=seconds, reason="its time was at an end")
        except BaseException:
            end(process)
            raise
    seconds = time.monotonic() - started
    if status in (0, 3):
        why = last(log.name) if status else ""  # 3: times that were disturbed, and are marked so
        return Outcome(status="done", seconds=seconds, reason=why)
    return Outcome(
        status="failed", seconds=seconds, reason=f"exit status {status}: {last(log.name)}"
    )


def heed_interrupts() -> None:
    """A shell lets what it starts in the background, by nohup say, ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def end(process: subprocess.Popen) -> None:
    """The whole session of a task: pytest's workers and a profiler's child belong to it."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last(log: str) -> str:
    lines = Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return (lines or ["it printed nothing"])[-1][:200]


def outcomes(folder: Path) -> dict[str, Outcome]:
    path = folder / "outcomes.json"
    if not path.exists():
        return {}
    body = json.loads(path.read_text(encoding="utf-8"))
    return {name: Outcome.model_validate(value) for name, value in body.items()}


def keep(folder: Path, found: dict[str, Outcome]) -> None:
    body = {name: outcome.model_dump() for name, outcome in found.items()}
    write_text(folder / "outcomes.json", json.dumps(body, indent=1) + "\n")


def archive(scratch: Path, path: Path) -> None:
    """All records, tables and logs under `scratch` in one file; checkpoints stay behind."""
    with tarfile.open(path, "w:gz") as tar:
        for file in sorted(scratch.rglob("*")):
            if file.suffix in KEPT and file.is_file():
                tar.add(file, file.relative_to(scratch))
