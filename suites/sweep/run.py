"""From a profile to printed tables: text, cases, runs, records, sheets."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import torch

from suites.errors import UserError
from suites.figures import FIGURES, save
from suites.language_model.train import preflight
from suites.measure.environment import environment
from suites.output import say
from suites.records.record import ResultFile
from suites.records.store import RESULTS, Store, write
from suites.sweep.cluster import Request
from suites.sweep.experiment import BYTES, Profile
from suites.sweep.place import Place, Texts, run_cases
from suites.sweep.pool import Crew, Here
from suites.sweep.runs import Runs
from suites.tables import TABLES
from suites.text.corpus import Corpus, prepare
from suites.text.evaluations import Gap, Prepared, prepare_set
from suites.text.sources import source
from suites.text.tokenizer import Tokenizer, tokenizer


class How(NamedTuple):
    """What the command line says beside the profile."""

    data: tuple[str, ...]
    held_out: tuple[str, ...]
    tokenizer: Path | None
    evaluations: tuple[str, ...]
    checkpoint_interval_s: float
    jobs: int | None
    results: Path | None
    wide: bool = False
    cluster: Request | None = None

    def store(self) -> Store:
        return Store(self.results or RESULTS)

    def jobs_for(self, profile: Profile) -> int:
        """One run at a time on a GPU, one per core on a CPU, unless stated."""
        cores = max(1, environment().cores // profile.threads)
        return self.jobs or (1 if profile.device == "cuda" else cores)


def sweep(suite: str, profile_name: str, profile: Profile, how: How, crew: Crew) -> int:
    """Runs every case of `profile` that has no record, prints the tables, names what was written.

    Returns the exit status: 0, or 1 when a case failed (its record says why).
    """
    if how.cluster is not None and (profile.device == "cuda") != bool(how.cluster.gpu_type):
        raise UserError(
            f"profile {profile_name} trains on {profile.device}; --gpu-type TYPE goes with cuda alone, where "
            "it keeps the runs of a sweep on GPUs of one type"
        )
    corpus, sets = texts_of(profile_name, profile, how)
    cases = profile.cases(corpus.text(), tuple(prepared.evaluation() for prepared in sets))
    preflight(cases, corpus)
    texts = Texts(corpus.folder, tuple(prepared.folder for prepared in sets))
    place = placed(how, profile, texts, crew)
    well = run_cases(place, cases, f"{suite} {profile_name}")
    files = place.results(suite, profile_name, cases)
    if len(files) > 1:
        click.echo(f"note: the runs are of {len(files)} kinds of machines, a file each", err=True)
    for file in files:
        show(file, how)
    return 0 if well and all(r.status == "ok" for file in files for r in file.records) else 1


def placed(how: How, profile: Profile, texts: Texts, crew: Crew) -> Place:
    """Where `how` says that the cases of `profile` run."""
    if how.cluster is None:
        runs = Runs(how.store())
        return Here(crew, runs, texts, how.jobs_for(profile), how.checkpoint_interval_s)
    from suites.sweep.slurm import Slurm  # submitit is no package of the suites

    interval_s = how.checkpoint_interval_s
    return Slurm(how.store(), how.cluster, texts, profile.threads, how.jobs, interval_s)


def show(file: ResultFile, how: How) -> None:
    """Writes and prints the tables of one file of results, and its figures."""
    assert file.code is not None
    assert file.environment is not None
    folder = how.store().scratch(file.suite, file.profile, file.code, file.environment)
    write(folder / "records.json", file)
    for sheet in TABLES[file.suite]([file]):
        sheet.write(folder, latex=True)
        say(sheet.printed(how.wide), **sheet.data())
    for name, figure in FIGURES[file.suite]([file]).items() if file.suite in FIGURES else ():
        save(figure, folder / name)
    say(
        f"wrote {len(file.records)} records, tables and figures in {folder}",
        wrote=str(folder),
        records=len(file.records),
    )


def texts_of(profile_name: str, profile: Profile, how: How) -> tuple[Corpus, list[Prepared]]:
    """What runs of `profile` read; raises UserError where it needs what is not there."""
    if profile.vocabulary > BYTES and not (how.data and how.tokenizer):
        raise UserError(
            f"profile {profile_name} is meant for a large corpus and {profile.vocabulary:,} pieces; "
            "give --data and --tokenizer, or --plan to see what it would run"
        )
    if profile.device == "cuda" and not how.cluster and not torch.cuda.is_available():
        raise UserError(
            f"profile {profile_name} needs a CUDA device and torch sees none; profile tiny runs on a CPU"
        )
    if how.held_out and not how.data:
        raise UserError("--held-out goes with --data")
    pieces = tokenizer(how.tokenizer)
    corpus = prepare(source(how.data), source(how.held_out) if how.held_out else None, pieces)
    sets = list(prepared_sets(how.evaluations, pieces, profile.evaluation_tokens))
    for note in [*corpus.notes(), *(note for prepared in sets for note in prepared.notes())]:
        click.echo(f"note: {note}", err=True)
    return corpus, sets


def prepared_sets(
    given: tuple[str, ...], pieces: Tokenizer, most_tokens: int
) -> Iterator[Prepared]:
    """Each set that can be had; one that cannot is named and left out."""
    names = [one.partition("=")[0] for one in given]
    if len(set(names)) < len(names):
        raise UserError(f"an evaluation set is given once; got {', '.join(names)}")
    for one in sorted(given):
        try:
            yield prepare_set(one, pieces, most_tokens)
        except Gap as gap:
            click.echo(f"no {one}: {gap}; it is left out", err=True)
