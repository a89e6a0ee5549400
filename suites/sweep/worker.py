"""Runs cases, each in a process of its own: an out-of-memory kill or a crash ends that case and no other.

`python -m suites.sweep.worker PARENT`, the process id of the sweep, without which it does not go on.
Reads a job a line from standard input: {"case": …, "corpus": folder, "sets": folders, "checkpoint":
file, "checkpoint_interval_s": …}. Writes JSON lines to standard output: progress while a job runs, its
record, and {"ended": status, "last": line} when its process ended.

A job runs in a fork of this process, which has imported all that it needs and computed nothing but the
smallest call of kernels, on one thread: at profile tiny the imports would take longer than the training.
"""

import ctypes
import json
import os
import signal
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # optimizers import it when they are made

from suites.language_model.case import TrainingCase
from suites.language_model.checkpoint import Checkpoint, Stopped
from suites.language_model.preload import load_kernels, uses_kernels
from suites.language_model.train import dump, train
from suites.records.record import Record
from suites.text import evaluations
from suites.text.corpus import load

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
ENDED = 128 + signal.SIGTERM  # exit status, as shells have it

jobs: list[int] = []  # the process of the present job, if there is one


def main(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and terminates
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # Slurm sends the parent's to all
    signal.signal(signal.SIGTERM, end_job)
    die_with(parent)
    for line in sys.stdin:
        job = json.loads(line)
        if sys.platform != "linux":  # elsewhere a fork may not compute; the parent starts anew
            with suppress(Stopped):
                run(job)
            return
        if uses_kernels(job["case"]):
            load_kernels()
        status, last = forked(job)
        # A job that was killed may have left half a line.
        print("\n" + json.dumps({"ended": status, "last": last}), flush=True)


def die_with(parent: int) -> None:
    """So that nothing goes on computing, or writing checkpoints, after a sweep was killed.

    A parent that died before this was asked for, while torch was imported, sends no signal any more.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def end_job(*_: object) -> None:
    """Passes the order to end on to the job, which saves what it has, and ends without one."""
    if jobs:
        os.kill(jobs[-1], signal.SIGTERM)
    else:
        os._exit(ENDED)


def forked(job: dict[str, Any]) -> tuple[int, str]:
    """Exit status of the job's process, −n for signal n, and the last line of its standard error."""
    with tempfile.TemporaryFile() as errors:
        parent = os.getpid()
        if (child := os.fork()) == 0:
            jobs.clear()
            die_with(parent)
            os.dup2(errors.fileno(), 2)
            status = 1
            try:
                run(job)
                status = 0
            except Stopped:
                status = ENDED
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        jobs.append(child)
        _, ended = os.waitpid(child, 0)
        jobs.clear()
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
        return os.waitstatus_to_exitcode(ended), lines[-1] if lines else "no message"


def run(job: dict[str, Any]) -> None:
    case = TrainingCase.model_validate(job["case"])

    def progress(step: int, steps: int, loss: float, tokens_per_s: float) -> None:
        say(step=step, steps=steps, loss=repr(loss), tokens_per_s=tokens_per_s)

    try:
        corpus = load(Path(job["corpus"]))
        sets = [evaluations.load(Path(folder)) for folder in job["sets"]]
        checkpoint = Checkpoint(Path(job["checkpoint"]), job["checkpoint_interval_s"])
        signal.signal(signal.SIGTERM, checkpoint.stop)
        record = train(case, corpus, progress, sets, checkpoint)
    except (torch.OutOfMemoryError, MemoryError) as error:
        record = Record(case=dump(case), status="oom", reason=first_line(error))
    except Exception as error:
        record = Record(case=dump(case), status="error", reason=first_line(error))
    say(record=record.model_dump(mode="json"))


def first_line(error: BaseException) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def say(**message: object) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
