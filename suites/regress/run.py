"""A whole gate: stages, exact counts, timed runs, rows, files."""

from dataclasses import dataclass
from pathlib import Path

import click

from suites.compare.verdict import Row
from suites.records.commits import Repository
from suites.records.store import Store
from suites.regress.cells import gate_cells
from suites.regress.kernels import NOT_COUNTED, compiler_installed
from suites.regress.procedure import ROUNDS, gate
from suites.regress.report import count_rows, kernel_rows, time_rows, write
from suites.regress.rounds import Harness
from suites.regress.worktrees import stages

QUICK_ROUNDS = 5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`exact` compares counts only; `slowdown` burdens HEAD for the self-test."""

    base: str
    head: str
    device: str
    quick: bool = False
    exact: bool = False
    seed: int = 0
    slowdown: float = 0.0


def run_gate(plan: Plan, repository: Repository, store: Store) -> tuple[list[Row], list[str], Path]:
    """Rows, notes and the folder that holds them; `plan` names commits by their full sha."""
    with stages(repository, [plan.base, plan.head]) as (base, head):
        harness = Harness(
            base=base,
            head=head,
            cells={cell.name: cell for cell in gate_cells(plan.device, plan.quick)},
            rounds=QUICK_ROUNDS if plan.quick else ROUNDS,
            seed=plan.seed,
            together=plan.device == "cpu",
            slowdown=plan.slowdown,
            progress=lambda line: click.echo(line, err=True),
        )
        rows = [] if plan.slowdown else count_rows(harness)
        counts_kernels = plan.exact and compiler_installed()
        if counts_kernels:
            rows += kernel_rows(harness)
        if not plan.exact:
            rows += time_rows(harness, gate(harness.cells, harness.measure))
        notes = [
            f"BASE {plan.base[:12]}, HEAD {plan.head[:12]}, {plan.device}, seed {plan.seed}",
            f"{len(harness.order)} rounds of BASE, BASE again and HEAD, each in a fresh process",
        ]
        if plan.exact and not counts_kernels:
            notes.append(NOT_COUNTED)
        folder = store.root / "scratch" / "regress" / f"{plan.base[:12]}-{plan.head[:12]}"
        write(folder, rows, notes, harness)
    return rows, notes, folder
