"""Rounds: BASE, BASE again and HEAD in fresh processes that take turns in a rotating, kept order.

On a CPU the three live together and alternate by blocks of samples, so that a neighbour's load
falls on all of them. On a GPU one lives at a time: idle processes hold memory there and look like
intruders.
"""

import random
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from suites.analysis.statistics import Rounds
from suites.regress.kernels import CASES
from suites.regress.process import Worker
from suites.regress.worker import Request
from suites.regress.worktrees import Stage
from suites.speed.cells.case import Cell

ROLES = ("base", "again", "head")
BLOCKS = 6
CELL_S = 0.15  # of samples per cell and process
Counts = dict[str, float]


@dataclass
class Harness:
    """Measures cells of two stages; keeps failures, invalid cells and the order of processes."""

    base: Stage
    head: Stage
    cells: dict[str, Cell]
    rounds: int
    seed: int
    together: bool
    slowdown: float = 0.0
    progress: Callable[[str], None] = print
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    invalid: dict[str, str] = field(default_factory=dict)
    order: list[list[str]] = field(default_factory=list)
    runs: dict[str, list[Rounds]] = field(default_factory=dict)

    def measure(self, names: set[str], run: int) -> dict[str, Rounds]:
        """Rounds of those cells that had a time in every process."""
        roles = random.Random(f"{self.seed} {run}").sample(ROLES, len(ROLES))
        medians: dict[str, dict[str, list[float]]] = {}
        for number in range(self.rounds):
            turn = number % len(ROLES)
            order = roles[turn:] + roles[:turn]
            self.order.append(order)
            self.progress(f"run {run + 1}, round {number + 1} of {self.rounds}: {len(names)} cells")
            cells = rotated([cell for name, cell in self.cells.items() if name in names], number)
            for group in [order] if self.together else [[role] for role in order]:
                for name, role, seconds in self.turns(group, cells):
                    medians.setdefault(name, {}).setdefault(role, []).append(seconds)
        complete = {
            name: Rounds(**{role: np.array(times[role]) for role in ROLES})
            for name, times in medians.items()
            if all(len(times.get(role, ())) == self.rounds for role in ROLES)
        }
        for name, rounds in complete.items():
            self.runs.setdefault(name, []).append(rounds)
        return complete

    def turns(self, group: list[str], cells: list[Cell]) -> list[tuple[str, str, float]]:
        """(cell, role, median seconds) of fresh processes, one per role of `group`."""
        found = []
        with ExitStack() as stack:
            workers = {role: stack.enter_context(self.worker(role)) for role in group}
            for cell in cells:
                for role, seconds in self.cell_turns(cell, workers).items():
                    found.append((cell.name, role, median(seconds)))
        return found

    def cell_turns(self, cell: Cell, workers: dict[str, Worker]) -> dict[str, list[float]]:
        """Samples in seconds by role, taken in turns; none where a process fails."""
        replies = {role: worker.ask(Request(cell=cell)) for role, worker in workers.items()}
        if any(self.note(cell.name, role, reply.failure) for role, reply in replies.items()):
            return {}
        slowest_s = max(reply.per_call_s or 0.0 for reply in replies.values())
        count = max(1, round(CELL_S / BLOCKS / slowest_s))
        samples: dict[str, list[float]] = {role: [] for role in workers}
        for _ in range(BLOCKS):
            for role, worker in workers.items():
                reply = worker.ask(Request(samples=count))
                if self.note(cell.name, role, reply.failure):
                    return {}
                if reply.invalid is not None:
                    self.invalid[cell.name] = reply.invalid
                samples[role] += reply.samples_s
        return samples

    def counts(self) -> dict[str, tuple[Counts, Counts]]:
        """Exact numbers of every cell in BASE and in HEAD; empty where a side has none."""
        return self.counted({name: Request(cell=c, exact=True) for name, c in self.cells.items()})

    def kernel_counts(self) -> dict[str, tuple[Counts, Counts]]:
        """The same of what the operations of `suites.regress.kernels` launch."""
        return self.counted({name: Request(kernels=case) for name, case in CASES.items()})

    def counted(self, requests: dict[str, Request]) -> dict[str, tuple[Counts, Counts]]:
        found = {}
        with self.worker("base") as base, self.worker("head") as head:
            for name, request in requests.items():
                replies = {"base": base.ask(request), "head": head.ask(request)}
                for role, reply in replies.items():
                    self.note(name, role, reply.failure)
                found[name] = (replies["base"].counts, replies["head"].counts)
        return found

    def worker(self, role: str) -> Worker:
        if role == "head":
            return Worker(self.head, self.slowdown)
        return Worker(self.base)

    def note(self, name: str, role: str, failure: str | None) -> bool:
        """Keeps a failure under the side it belongs to, and says whether there was one."""
        if failure is not None:
            side = "head" if role == "head" else "base"
            self.failures.setdefault(name, {})[side] = failure
        return failure is not None


def rotated(cells: list[Cell], by: int) -> list[Cell]:
    turn = by % len(cells) if cells else 0
    return cells[turn:] + cells[:turn]
