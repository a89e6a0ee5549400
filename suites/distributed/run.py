"""One case of a training suite over the processes of torchrun: text, preflight, run, record."""

import shutil
import signal
from pathlib import Path
from typing import Any

import click
import torch
from tqdm import tqdm

from peer.sharded import Sharding
from suites.distributed.costs import check_fits, choose
from suites.distributed.ranks import Ranks, joined
from suites.errors import UserError
from suites.language_model.case import TrainingCase
from suites.language_model.checkpoint import Checkpoint, Stopped
from suites.language_model.train import decoder, dump, preflight, train
from suites.measure.meta import on_meta
from suites.output import say
from suites.records.record import Record
from suites.records.store import read
from suites.sweep.experiment import Profile
from suites.sweep.place import summary
from suites.sweep.run import How, texts_of
from suites.sweep.runs import FINAL, Runs
from suites.sweep.worker import first_line
from suites.text.corpus import Corpus
from suites.text.evaluations import Prepared

CHECKPOINT = "run.checkpoint"  # names the folder of parts beside it


def train_over_ranks(
    profile_name: str, profile: Profile, how: How, sharding: Sharding | None
) -> int:
    """The profile's one case, largest backbone and budget; the first process writes and says.

    Returns the exit status: 0, or 1 where it failed (its record says why).
    """
    with joined(profile.device) as (rank, ranks):
        corpus, sets = texts_in_turn(profile_name, profile, how, rank)
        evaluations = tuple(prepared.evaluation() for prepared in sets)
        (single,) = profile.cases(corpus.text(), evaluations)
        case = spread_case(single, corpus, ranks, sharding)
        preflight([case], corpus)
        runs = Runs(how.store())
        path = runs.path(case)
        placement = Ranks(case.sharding)
        if placement.agree(rank == 0 and runs.finished(case)):
            if rank == 0:
                said(case, read(path).records[0], path)
            return 0
        checkpoint = Checkpoint(path.with_suffix(".parts") / CHECKPOINT, how.checkpoint_interval_s)
        record = recorded(case, corpus, sets, checkpoint, placement)
        if rank == 0:
            runs.folder.mkdir(parents=True, exist_ok=True)
            runs.keep(case, record)
            if record.status in FINAL:
                shutil.rmtree(checkpoint.path.parent, ignore_errors=True)
            said(case, record, path)
        return 0 if record.status == "ok" else 1


def texts_in_turn(
    profile_name: str, profile: Profile, how: How, rank: int
) -> tuple[Corpus, list[Prepared]]:
    """The first process prepares the text, which the others then find."""
    turn = Ranks(None)
    if rank == 0:
        texts = texts_of(profile_name, profile, how)
    turn.agree(False)
    return texts if rank == 0 else texts_of(profile_name, profile, how)


def spread_case(
    case: TrainingCase, corpus: Corpus, ranks: int, sharding: Sharding | None
) -> TrainingCase:
    """`case` as so many processes run it: eager, since the graphs of collectives are another matter.

    Raises UserError for what does not divide.
    """
    if ranks == 1:
        return case
    together = case.micro_sequences or case.batch_sequences
    if case.batch_sequences % ranks or together % ranks:
        raise UserError(
            f"{together} sequences of a call, and a batch of {case.batch_sequences}, must divide by the "
            f"{ranks} processes; take a number of processes that does"
        )
    model = on_meta(decoder, case, corpus)
    if sharding is None:
        sharding = choose(model, ranks, together // ranks)
    else:
        check_fits(model, sharding, ranks)
    return case.model_copy(update={"ranks": ranks, "sharding": sharding, "compiled": False})


def recorded(
    case: TrainingCase,
    corpus: Corpus,
    sets: list[Prepared],
    checkpoint: Checkpoint,
    placement: Ranks,
) -> Record:
    """What became of `case`. A process that is lost ends it: the same command goes on from its checkpoint."""
    signal.signal(signal.SIGTERM, checkpoint.stop)
    signal.signal(signal.SIGINT, checkpoint.stop)
    with tqdm(unit="step", leave=False, disable=True if placement.rank else None) as bar:

        def progress(step: int, steps: int, loss: float, tokens_per_s: float) -> None:
            bar.total = steps
            bar.set_postfix_str(f"loss {loss:.3f}, {tokens_per_s:,.0f} tokens/s")
            bar.update(step - bar.n)

        try:
            return train(case, corpus, progress, sets, checkpoint, placement)
        except Stopped:
            raise KeyboardInterrupt from None
        except (torch.OutOfMemoryError, MemoryError) as error:
            return failed(case, "oom", error)
        except UserError:
            raise
        except Exception as error:
            return failed(case, "error", error)


def failed(case: TrainingCase, status: Any, error: Exception) -> Record:
    return Record(case=dump(case), status=status, reason=first_line(error))


def said(case: TrainingCase, record: Record, path: Path) -> None:
    spread = "" if case.sharding is None else f", tables by {case.sharding}"
    ranks = f"{case.ranks} process{'es' if case.ranks > 1 else ''}{spread}"
    say(
        f"{ranks}; {summary(case, record)}\nwrote {path}",
        ranks=case.ranks,
        sharding=case.sharding,
        status=record.status,
        reason=record.reason,
        metrics=dict(record.metrics),
        wrote=str(path),
    )
    if record.status != "ok":
        click.echo("the same command goes on from the last checkpoint, if there is one", err=True)
