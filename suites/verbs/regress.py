"""Measure two commits in paired rounds and judge whether HEAD is slower, larger or broken.

BASE and HEAD are commits, tags or branches; HEAD is the checked-out commit by default.

Exit status: 0 nothing slower, 1 slower, more, failed or removed, 2 usage, 3 undecided or invalid,
4 nothing measured, 70 a fault of the suite.
"""

import click

from suites.errors import UserError
from suites.output import FORMATS, Format, say
from suites.records.commits import Repository
from suites.records.store import RESULTS, Store


@click.command(name="regress", help=__doc__)
@click.argument("base")
@click.argument("head", required=False)
@click.option("--quick", is_flag=True, help="PEER and dense forward, 5 rounds: for the desk")
@click.option(
    "--exact", is_flag=True, help="counts only, of cells and compiled kernels: for any machine"
)
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), help="default: cuda where there is one"
)
@click.option("--seed", default=0, show_default=True, help="of the order of processes")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
def command(
    base: str,
    head: str | None,
    quick: bool,
    exact: bool,
    device: str | None,
    seed: int,
    form: Format,
) -> int:
    from suites.compare.rendering import render
    from suites.compare.verdict import exit_status
    from suites.measure.lock import measuring
    from suites.regress.run import Plan, run_gate

    repository = Repository(RESULTS.parent)
    if head is None and (changes := repository.changes()):
        raise UserError(
            f"the tree has changes that no commit holds ({len(changes.splitlines())} files); "
            "commit them, or name HEAD to measure what is committed"
        )
    device = chosen_device(device)
    plan = Plan(
        base=repository.resolve(base),
        head=repository.resolve(head or "HEAD"),
        device=device,
        quick=quick,
        exact=exact,
        seed=seed,
    )
    with measuring(device):
        rows, notes, folder = run_gate(plan, repository, Store(RESULTS))
    say(render(rows, notes, form), notes=notes, rows=[row.model_dump() for row in rows])
    click.echo(f"wrote gate.md and gate.json in {folder}", err=True)
    return exit_status(rows)


def chosen_device(asked: str | None) -> str:
    """Raises UserError for a GPU that torch does not see."""
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU; --device cpu measures here")
    return asked or ("cuda" if torch.cuda.is_available() else "cpu")
