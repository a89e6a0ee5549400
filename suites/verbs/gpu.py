"""Spend a GPU's minutes on what it can say, in order of worth: tests, sanitizer, tuner, times, counters,
training.

Each task keeps what it finished, and the same call goes on with what is left. A table of tiles that the
tuner writes is committed, so that the records after it are of a clean commit.
"""

import os
import time
from pathlib import Path

import click

from suites.errors import UserError
from suites.output import say
from suites.records.commits import Repository
from suites.records.places import PLACE
from suites.records.store import RESULTS, Store, write_text


@click.command(name="gpu", help=__doc__)
@click.option("--minutes", type=click.FloatRange(min=0.5), default=30.0, show_default=True)
@click.option("--rehearse", is_flag=True, help="the same stages on a CPU: interpreted, tiny")
@click.option("--wheels", type=PLACE, help="only collect in this folder what a GPU machine lacks")
@click.option("--python", default="3.12", show_default=True, help="of the wheels' machine")
@click.option("--results", type=PLACE, help="folder of results; default: results/")
def command(
    minutes: float, rehearse: bool, wheels: Path | None, python: str, results: Path | None
) -> int:
    until = time.monotonic() + 60 * minutes
    if wheels is not None:
        from suites.gpu.wheels import collect

        say(collect(wheels, python))
        return 0
    import torch

    if not rehearse and not torch.cuda.is_available():
        raise UserError(
            "torch sees no GPU; --rehearse goes through the stages on a CPU, and --wheels DIR collects "
            "what a GPU machine without network lacks"
        )
    from tabulate import tabulate

    from suites.gpu.tasks import Task, rehearsal, tasks
    from suites.gpu.visit import archive, visit
    from suites.measure.environment import ROOT, code, environment

    repository = Repository(ROOT) if (ROOT / ".git").exists() else None
    was_clean = not code().dirty
    store = Store(results or RESULTS)
    folder = store.scratch("gpu", "rehearsal" if rehearse else "small", code(), environment())

    def after(task: Task) -> None:
        if task.stage == "tune" and not rehearse and was_clean and repository is not None:
            commit_table(repository)

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for tests of deterministic mode
    planned = list((rehearsal if rehearse else tasks)(results))
    found = visit(planned, folder, until, lambda line: click.echo(line, err=True), after)
    rows = [
        (
            task.stage,
            task.name,
            found[task.key].status,
            f"{found[task.key].seconds:.0f}",
            found[task.key].reason,
        )
        for task in planned
    ]
    text = tabulate(rows, ("stage", "task", "outcome", "s", "why"), tablefmt="pipe")
    write_text(folder / "visit.md", text + "\n")
    archive(store.root / "scratch", folder.with_suffix(".tar.gz"))
    outcomes = [
        {"stage": task.stage, "task": task.name} | found[task.key].model_dump() for task in planned
    ]
    say(text, outcomes=outcomes)
    left = [key for key, outcome in found.items() if not outcome.final]
    say(
        f"logs are in {folder}, and all of it in {folder.with_suffix('.tar.gz')}", wrote=str(folder)
    )
    if left:
        say(f"the same command goes on with {', '.join(left)}", left=left)
    return 1 if any(outcome.status == "failed" for outcome in found.values()) else 0


def commit_table(repository: Repository) -> None:
    """By a name of its own, as a rented machine has none."""
    table = "peer/kernels/tuned.csv"
    if repository.git("status", "--porcelain", "--", table):
        own = ("-c", "user.name=peer-suite", "-c", "user.email=peer-suite@localhost")
        repository.change(*own, "commit", "--quiet", "--message", "Tune the kernels", "--", table)
