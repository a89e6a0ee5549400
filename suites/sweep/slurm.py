"""Runs cases as tasks of Slurm job arrays, which submitit writes and submits; nothing is pickled.

results/scratch/slurm/CODE-PARTITION-GPU/NAME/   one array; its job has that name
    N.job.json                                   what task N reads, a `suites.sweep.task.Job`
    N.machine.json                               what it runs on, from its start on
    JOB_submission.sh, JOB_N_0_log.{out,err}     of submitit

This folder and the queue are all that is known, so that the same command watches a sweep again.
"""

import re
import shlex
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

import submitit
from tqdm import tqdm

from suites.errors import UserError
from suites.language_model.case import TrainingCase
from suites.language_model.train import dump
from suites.measure.environment import ROOT, code
from suites.records.record import Environment, Record, ResultFile
from suites.records.store import Store, read, write_text
from suites.sweep.cluster import Request
from suites.sweep.place import Done, Texts
from suites.sweep.runs import Runs, address
from suites.sweep.task import Job, machine_path

# States of `squeue` in which a task is running, will run or will run again.
LIVE = {
    "COMPLETING", "CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESIZING",
    "RESV_DEL_HOLD", "REVOKED", "RUNNING", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED",
    "SUSPENDED",
}  # fmt: skip
UNKNOWN = "UNKNOWN"  # Slurm forgets what ended, after five minutes by default
SHORTEST_S, LONGEST_S = 2.0, 30.0  # between two looks at the queue
ANSWER_S = 60  # for a Slurm command
MAX_ARRAY = 1001  # Slurm's own default of MaxArraySize


class Task(NamedTuple):
    """Task `number` of the array that `folder` describes."""

    folder: Path
    number: int

    def machine(self) -> Environment | None:
        """What it runs on; None before it started."""
        path = machine_path(self.folder, self.number)
        return Environment.model_validate_json(path.read_text()) if path.exists() else None

    def last_word(self) -> str:
        """The last line of its standard error, of all its starts; Slurm's own only where it is alone."""
        logs = self.folder.glob(f"*_{self.number}_0_log.err")
        lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
        own = [line for line in lines if not line.startswith(("srun: ", "slurmstepd: "))]
        return (own or lines or ["no message"])[-1]


class Array(submitit.SlurmExecutor):
    """submitit's batch files for a command of our own."""

    def submit_command(self, command: str, tasks: int) -> str:
        """The id of a job array whose tasks all run `command`."""
        self.parameters["map_count"] = tasks
        return self._submit_command(command).job_id


class Slurm:
    """Runs cases on the nodes of a cluster, each in a task that takes one GPU or `threads` cores."""

    def __init__(
        self,
        store: Store,
        request: Request,
        texts: Texts,
        threads: int,
        jobs: int | None,
        checkpoint_interval_s: float,
    ) -> None:
        self.store, self.request, self.texts = store, request, texts
        self.threads, self.jobs = threads, jobs
        self.checkpoint_interval_s = checkpoint_interval_s
        self.sources_sha256 = code().sha256
        kind = f"{request.partition or 'default'}-{request.gpu_type or 'cpu'}"
        self.folder = store.root / "scratch" / "slurm" / f"{self.sources_sha256[:12]}-{kind}"
        self.known: dict[str, Runs] = {}
        self.tasks: dict[str, Task] = {}  # by case; of several, the last that was submitted
        for folder in sorted(self.folder.glob("*"), key=lambda folder: folder.stat().st_mtime):
            for path in folder.glob("*.job.json"):
                job = Job.model_validate_json(path.read_text())
                self.tasks[address(job.case)] = Task(folder, int(path.name.split(".")[0]))

    def runs(self, case: TrainingCase) -> Runs | None:
        """Those of the kind of machine that `case` ran on; None before it started."""
        task = self.tasks.get(address(case))
        machine = task.machine() if task else None
        if machine is None:
            return None
        return self.known.setdefault(machine.machine, Runs(self.store, machine))

    def finished(self, case: TrainingCase) -> bool:
        runs = self.runs(case)
        return runs is not None and runs.finished(case)

    def completed(self, cases: list[TrainingCase]) -> Generator[Done, None, None]:
        """Submits those of `cases` that wait or run nowhere; gives each that ended.

        Left before all ended, it says so, and they go on. Raises UserError where Slurm does not answer.
        """
        queue = states()
        waiting = [case for case in cases if queue.get(self.place_of(case)) in LIVE]
        if waiting:
            say(f"{len(waiting)} of these runs wait or run in Slurm already")
        new = [case for case in cases if queue.get(self.place_of(case)) not in LIVE]
        most = array_limit()
        for start in range(0, len(new), most):
            waiting += self.submitted(new[start : start + most])
        try:
            yield from self.ended(waiting)
        finally:
            if waiting:
                arrays = {self.tasks[address(case)].folder.name for case in waiting}
                say(
                    f"{len(waiting)} runs go on in Slurm, and the same command watches them again; to end "
                    f"them, each with a checkpoint: scancel --name={','.join(sorted(arrays))}"
                )

    def place_of(self, case: TrainingCase) -> tuple[str, int] | None:
        """Name and number of its task in the queue."""
        task = self.tasks.get(address(case))
        return (task.folder.name, task.number) if task else None

    def submitted(self, cases: list[TrainingCase]) -> list[TrainingCase]:
        """`cases`, which are the tasks of a new array."""
        folder = self.folder / f"peer-suite-{uuid.uuid4().hex[:12]}"
        for number, case in enumerate(cases):
            job = Job(
                case=case,
                corpus=self.texts.corpus,
                sets=self.texts.sets,
                results=self.store.root,
                checkpoint_interval_s=self.checkpoint_interval_s,
                sources_sha256=self.sources_sha256,
            )
            write_text(folder / f"{number}.job.json", job.model_dump_json(indent=1) + "\n")
        words = [sys.executable, "-u", "-m", "suites.sweep.task", str(folder)]
        try:
            array = Array(folder)
            array.update_parameters(**self.parameters(folder.name, len(cases)))
            job_id = array.submit_command(shlex.join(words), len(cases))
        except RuntimeError as error:  # submitit without Slurm, and sbatch that refused
            raise UserError(f"nothing was submitted: {error}") from error
        self.tasks |= {address(case): Task(folder, n) for n, case in enumerate(cases)}
        say(f"submitted {len(cases)} runs as Slurm job {job_id}; logs in {folder}")
        return cases

    def parameters(self, name: str, tasks: int) -> dict[str, object]:
        """Of submitit, whose names are those of sbatch. Preempted tasks and those of lost nodes come back."""
        asked = self.request
        further = dict(one.split("=", 1) for one in asked.sbatch)
        chosen: dict[str, object] = {
            "job_name": name,
            "time": asked.time_limit_min,
            "cpus_per_task": self.threads,
            "array_parallelism": self.jobs or tasks,
            # Since Slurm 22.05 a step does not inherit it.
            "srun_args": ["--cpus-per-task", str(self.threads)],
            "additional_parameters": {"requeue": True, "chdir": str(ROOT), **further},
        }
        if asked.partition:
            chosen["partition"] = asked.partition
        if asked.gpu_type:
            chosen["gres"] = f"gpu:{asked.gpu_type}:1"
        if asked.after:
            chosen["dependency"] = f"afterany:{asked.after}"
        return chosen

    def ended(self, waiting: list[TrainingCase]) -> Iterator[Done]:
        """Each of `waiting` when it ended, which is then taken from the list.

        A task without a final record is believed to have ended when two looks say so: one that is
        requeued looks so for a moment, and its record takes a while across a network file system.
        """
        pause_s, suspects, before = SHORTEST_S, set[str](), ""
        while waiting:
            try:
                queue = states()
            except UserError as error:
                say(f"{error}; asking again")
                time.sleep(LONGEST_S)
                continue
            places = [self.place_of(case) for case in waiting]
            count = Counter(queue.get(place, UNKNOWN).lower() for place in places)
            if (now := ", ".join(f"{n} {state}" for state, n in sorted(count.items()))) != before:
                say(f"in Slurm: {now}")
                before, pause_s = now, SHORTEST_S
            for case, place in zip(list(waiting), places, strict=True):
                state, key = queue.get(place, UNKNOWN), address(case)
                if state in LIVE:
                    suspects.discard(key)
                elif key in suspects or self.finished(case):
                    waiting.remove(case)
                    yield Done(case, self.record(case, state))
                else:
                    suspects.add(key)
            if waiting:
                time.sleep(pause_s)
                pause_s = min(1.5 * pause_s, LONGEST_S)

    def record(self, case: TrainingCase, state: str) -> Record:
        """What a task that ended in `state` left, or what there is to say of it, which is kept."""
        runs, task = self.runs(case), self.tasks[address(case)]
        left = runs is not None and runs.path(case).exists()
        if runs and left and (state in ("COMPLETED", UNKNOWN) or runs.finished(case)):
            return read(runs.path(case)).records[0]
        record = Record(
            case=dump(case),
            status="oom" if state == "OUT_OF_MEMORY" else "error",
            reason=f"Slurm says {state} of task {task.number} of {task.folder.name}: {task.last_word()}",
        )
        if runs is not None:  # else it ran on no machine that a record could name
            runs.keep(case, record)
        return record

    def results(self, suite: str, profile: str, cases: list[TrainingCase]) -> list[ResultFile]:
        """A file for each kind of machine that had some of `cases`."""
        found: dict[str, list[TrainingCase]] = {}
        for case in cases:
            if (runs := self.runs(case)) is not None and runs.path(case).exists():
                found.setdefault(runs.environment.machine, []).append(case)
        return [self.known[kind].results(suite, profile, own) for kind, own in found.items()]


def states() -> dict[tuple[str, int] | None, str]:
    """Name of a job, number of its task → state, of all this user's tasks that Slurm still knows.

    Raises UserError where Slurm does not answer.
    """
    lines = asked("squeue", "--me", "--states=all", "--array", "--noheader", "--format=%K|%T|%j")
    rows = [line.split("|", 2) for line in lines.splitlines()]
    return {(name, int(number)): state for number, state, name in rows if number.isdigit()}


def array_limit() -> int:
    """Tasks that an array of this cluster may have."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", asked("scontrol", "show", "config"))
    return int(found[1]) if found else MAX_ARRAY


def asked(*words: str) -> str:
    """What a Slurm command prints; raises UserError where it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=ANSWER_S, check=True)
    except FileNotFoundError as error:
        raise UserError(
            f"there is no {words[0]} here: --executor slurm is for a login node of a Slurm cluster"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{words[0]} gave no answer in {ANSWER_S} s") from error
    except subprocess.CalledProcessError as error:
        raise UserError(f"{words[0]} failed: {error.stderr.strip()}") from error
    return done.stdout


def say(text: str) -> None:
    """Above the progress bar."""
    tqdm.write(text, sys.stderr)
