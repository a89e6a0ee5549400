"""One run in a Slurm job: `python -m suites.sweep.task FOLDER` runs what N.job.json there says, N being
the number of the task.

Its status is 0 when a record was written, whatever that says. Told to end, as at a preemption, it leaves
a checkpoint; near its time limit it does so too, and goes back into the queue.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from suites.errors import UserError
from suites.language_model.case import TrainingCase
from suites.measure.environment import code, environment
from suites.records.record import Environment, Model
from suites.records.store import Store, write_text
from suites.sweep.place import Texts, run_cases
from suites.sweep.pool import Crew, Here
from suites.sweep.runs import Runs

NEAR_LIMIT = signal.SIGUSR2  # what submitit has Slurm send before the time limit


class Job(Model):
    """What a task reads."""

    case: TrainingCase
    corpus: Path
    sets: tuple[Path, ...]
    results: Path
    checkpoint_interval_s: float
    sources_sha256: str


class OutOfTime(BaseException):
    """Ends a run like an interrupt."""


def machine_path(folder: Path, number: int) -> Path:
    return folder / f"{number}.machine.json"


def main(folder: Path, number: int) -> int:
    job = Job.model_validate_json((folder / f"{number}.job.json").read_text())
    if (now := code().sha256) != job.sources_sha256:
        raise UserError(
            f"the sources changed since this was submitted ({job.sources_sha256[:12]}, now {now[:12]}); "
            "submit it again"
        )
    machine = kind(environment())
    write_text(machine_path(folder, number), machine.model_dump_json(indent=1) + "\n")
    runs = Runs(Store(job.results), machine)
    started_s = time.time()
    signal.signal(signal.SIGTERM, leave)
    signal.signal(NEAR_LIMIT, leave)
    try:
        with Crew() as crew:
            texts = Texts(job.corpus, job.sets)
            run_cases(Here(crew, runs, texts, 1, job.checkpoint_interval_s), [job.case], "run")
    except OutOfTime:
        checkpoint = runs.checkpoint(job.case)
        if not checkpoint.exists() or checkpoint.stat().st_mtime < started_s:
            raise UserError(
                "the time limit came before a checkpoint; give a longer --time-limit"
            ) from None
        again = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{number}"
        subprocess.run(["scontrol", "requeue", again], check=True)
    return 0


def kind(machine: Environment) -> Environment:
    """What all nodes like this one are: a sweep takes whichever GPU of its type is free."""
    gpu = machine.gpu and machine.gpu.model_copy(update={"uuid": "any of its type"})
    return machine.model_copy(update={"gpu": gpu})


def leave(number: int, _: object) -> None:
    """Once: what is saved then is not interrupted again."""
    for order in (signal.SIGTERM, NEAR_LIMIT):
        signal.signal(order, signal.SIG_IGN)
    raise OutOfTime if number == NEAR_LIMIT else KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), int(os.environ["SLURM_ARRAY_TASK_ID"])))
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)
