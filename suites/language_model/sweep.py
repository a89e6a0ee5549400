"""From a profile to a printed table: text, cases, runs, records, sheet."""

from pathlib import Path

import click
import torch

from suites.errors import UserError
from suites.experiment import Profile
from suites.language_model.corpus import prepare
from suites.language_model.runner import Run, run_cases
from suites.language_model.sources import source
from suites.language_model.tokenizer import tokenizer
from suites.language_model.train import preflight
from suites.measure.environment import ROOT, environment
from suites.records.store import Store, read, write_text
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
    """Runs every case of `profile` that has no record, prints the table, names what was written.

    Returns the exit status: 0, or 1 when a case failed (its record says why).
    """
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
    run = Run(store, suite, profile_name)
    cores = environment().cores
    run_cases(
        run,
        cases,
        corpus,
        jobs or (1 if profile.device == "cuda" else max(1, cores // profile.threads)),
    )
    files = run.results(cases)
    (sheet,) = TABLES[suite](files)
    table = run.folder / "table"
    write_text(table.with_suffix(".md"), sheet.markdown())
    write_text(table.with_suffix(".csv"), sheet.csv())
    click.echo(sheet.markdown())
    click.echo(f"wrote {len(cases)} records, table.md and table.csv in {run.folder}")
    return 0 if all(read(run.path(case)).records[0].status == "ok" for case in cases) else 1
