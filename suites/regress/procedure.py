"""The order of a gate: measure every cell, then measure again what is not plainly the same."""

from collections.abc import Callable, Iterable

from suites.analysis.statistics import Decision, Estimate, Rounds, decide_runs

ROUNDS = 7
RUNS = 3  # at most: all cells, cells that were not the same, cells that are still undecided

# (names of cells, number of the run) → their rounds
Measure = Callable[[set[str], int], dict[str, Rounds]]


def gate(cells: Iterable[str], measure: Measure) -> dict[str, tuple[Decision, Estimate]]:
    """Decides every cell that could be measured; a change was seen in two runs at least.

    A cell that could be measured in one run and not in another is left out.
    """
    runs: dict[str, list[Rounds]] = {}
    waiting = set(cells)
    for number in range(RUNS):
        if not waiting:
            break
        measured = measure(waiting, number)
        for name in waiting:
            if name in measured:
                runs.setdefault(name, []).append(measured[name])
            else:
                runs.pop(name, None)
        unsettled = ("undecided",) if number else ("undecided", "above", "below")
        waiting = {
            name for name, (decision, _) in decide_runs(runs).items() if decision in unsettled
        }
    return decide_runs(runs)
