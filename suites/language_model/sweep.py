"""From a profile to printed tables: text, cases, runs, records, sheets."""

from pathlib import Path

import click
import torch

from suites.errors import UserError
from suites.experiment import BYTES, Profile
from suites.language_model.corpus import prepare
from suites.language_model.runner import Runs, run_cases
from suites.language_model.sources import source
from suites.language_model.tokenizer import tokenizer
from suites.language_model.train import preflight
from suites.measure.environment import ROOT, environment
from suites.records.figures import FIGURES, save
from suites.records.store import Store, write, write_text
from suites.records.tables import TABLES


def sweep(
    suite: str,
    profile_name: str,
    profile: Profile,
    data: tuple[str, ...],
    held_out: tuple[str, ...],
    tokenizer_file: Path | None,
    jobs: int | None,
    results: Path | None,
) -> int:
    """Runs every case of `profile` that has no record, prints the tables, names what was written.

    Returns the exit status: 0, or 1 when a case failed (its record says why).
    """
    if profile.vocabulary > BYTES and not (data and tokenizer_file):
        raise UserError(
            f"profile {profile_name} is meant for a large corpus and {profile.vocabulary:,} pieces; "
            "give --data and --tokenizer, or --plan to see what it would run"
        )
    if profile.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"profile {profile_name} needs a CUDA device and torch sees none; profile tiny runs on a CPU"
        )
    corpus = prepare(
        source(data), source(held_out) if held_out else None, tokenizer(tokenizer_file)
    )
    cases = profile.cases(corpus.text())
    preflight(cases, corpus)
    store = Store(results or ROOT / "results")
    runs = Runs(store)
    what = f"{suite} {profile_name}"
    run_cases(runs, cases, corpus, jobs or default_jobs(profile), what)
    file = runs.results(suite, profile_name, cases)
    folder = store.scratch(suite, profile_name, runs.code, runs.environment)
    write(folder / "records.json", file)
    for sheet in TABLES[suite]([file]):
        table = folder / (sheet.name or "table")
        write_text(table.with_suffix(".md"), sheet.markdown())
        write_text(table.with_suffix(".csv"), sheet.csv())
        click.echo(sheet.markdown())
    for name, figure in FIGURES[suite]([file]).items() if suite in FIGURES else ():
        save(figure, folder / name)
    click.echo(f"wrote {len(file.records)} records, tables and figures in {folder}")
    return 0 if all(record.status == "ok" for record in file.records) else 1


def default_jobs(profile: Profile) -> int:
    """One run at a time on a GPU, one per core on a CPU."""
    return 1 if profile.device == "cuda" else max(1, environment().cores // profile.threads)
