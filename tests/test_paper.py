"""The experiments: numbers that one file takes from the records of another."""

import math
from pathlib import Path

import pytest

from suites.paper import methods, tuning
from suites.records.store import Store

ROOT = Path(__file__).resolve().parents[1]


def test_every_method_has_the_same_number_of_trials() -> None:
    trials = [len(tuning.trials(arm)) for arm in methods.PROFILES["tiny"].arms]
    assert set(trials) == {6}
    assert not {*tuning.SEEDS} & {*methods.PROFILES["tiny"].seeds}


@pytest.mark.parametrize("arm", methods.PROFILES["tiny"].arms, ids=lambda arm: arm.layer)
def test_learning_rates_are_the_best_trials(arm) -> None:
    """suites/paper/methods.py states what the committed tuning records found."""
    files = [
        results for _, results in Store(ROOT / "results").files("records", "tuning-tiny/*.json")
    ]
    assert files, "no committed tuning records"
    losses: dict[tuple[float, float], list[float]] = {}
    for record in files[-1].records:
        if record.case["layer"] == arm.layer:
            rates = record.case["optimization"]
            loss = record.metrics.get("validation_loss_nats", math.inf)
            losses.setdefault((rates["learning_rate"], rates["table_rate"]), []).append(loss)
    best = min(losses, key=lambda rates: sum(losses[rates]))
    assert (arm.optimization.learning_rate, arm.optimization.table_rate) == best


def test_the_tuning_table_has_a_row_per_trial(suites, tmp_path: Path) -> None:
    done = suites("run", "tuning", "--profile", "smoke", "--layer", "dense", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| dense")]
    assert len(rows) == len(tuning.WITHOUT_TABLES)
