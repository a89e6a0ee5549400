"""How often the gate cries wolf and how often it sleeps, on noise worse than a quiet runner's.

Every simulated process has an offset of its own (1 %), one in twenty is disturbed by an
exponential of mean 10 %, the machine drifts by 5 % over a run and wanders by 0.2 % per process, and
samples inside a process spread by 2 % with one in ten far slower.
"""

import numpy as np

from suites.analysis.statistics import Rounds
from suites.records.record import Model
from suites.regress.procedure import ROUNDS, gate

SAMPLES = 20
CELLS = ("0", "1", "2", "3", "4", "5")


class Rates(Model):
    """Shares of simulated gates; `slowdown` acts on one of their cells."""

    slowdown: float
    gates: int
    false_alarm: float
    detected: float | None
    undecided: float


def rates(slowdown: float, gates: int, seed: int) -> Rates:
    random = np.random.default_rng(seed)
    slowed = CELLS[0]
    false_alarms = detections = undecided = 0
    for _ in range(gates):
        outcome = gate(CELLS, lambda cells, number: run(random, cells, {slowed: slowdown}))
        alarms = {name for name, (decision, _) in outcome.items() if decision == "above"}
        detections += slowed in alarms
        false_alarms += bool(alarms - {slowed} if slowdown else alarms)
        undecided += any(decision == "undecided" for decision, _ in outcome.values())
    return Rates(
        slowdown=slowdown,
        gates=gates,
        false_alarm=false_alarms / gates,
        detected=detections / gates if slowdown else None,
        undecided=undecided / gates,
    )


def run(
    random: np.random.Generator, names: set[str], slowdowns: dict[str, float]
) -> dict[str, Rounds]:
    """One run of some cells; a process measures each once, orders rotate from round to round."""
    processes = ROUNDS * 3
    drift = np.cumsum(random.normal(0, 0.002, processes)) + np.linspace(0, 0.05, processes)
    disturbed = (random.random(processes) < 0.05) * random.exponential(0.10, processes)
    shared = (drift + disturbed).reshape(ROUNDS, 3)
    cells = {}
    for cell in sorted(names):
        spikes = (random.random((ROUNDS, 3, SAMPLES)) < 0.1) * random.exponential(
            0.3, (ROUNDS, 3, SAMPLES)
        )
        samples = random.lognormal(0, 0.02, (ROUNDS, 3, SAMPLES)) + spikes
        log_s = shared + random.normal(0, 0.01, (ROUNDS, 3)) + np.log(np.median(samples, axis=-1))
        base, again, head = (
            np.exp([log_s[r, (role + r) % 3] for r in range(ROUNDS)]) * 1e-3 for role in range(3)
        )
        cells[cell] = Rounds(base=base, again=again, head=head * (1 + slowdowns.get(cell, 0)))
    return cells
