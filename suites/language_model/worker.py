"""One case in a process of its own: an out-of-memory kill or a crash ends that case and nothing else.

Reads {"case": …, "corpus": folder, "sets": folders, "checkpoint": file, "checkpoint_interval_s": …}
from standard input; writes JSON lines to standard output, progress
while it runs and the record as the last one.
"""

import json
import signal
import sys
from pathlib import Path

import torch

from suites.language_model import evaluations
from suites.language_model.case import TrainingCase
from suites.language_model.checkpoint import Checkpoint
from suites.language_model.corpus import load
from suites.language_model.train import dump, train
from suites.records.record import Record


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, and terminates
    job = json.load(sys.stdin)
    case = TrainingCase.model_validate(job["case"])
    corpus = load(Path(job["corpus"]))
    sets = [evaluations.load(Path(folder)) for folder in job["sets"]]
    checkpoint = Checkpoint(Path(job["checkpoint"]), job["checkpoint_interval_s"])

    def progress(step: int, steps: int, loss: float, tokens_per_s: float) -> None:
        say(step=step, steps=steps, loss=repr(loss), tokens_per_s=tokens_per_s)

    try:
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
    main()
