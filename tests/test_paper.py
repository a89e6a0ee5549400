"""The experiments: numbers that one file takes from the records of another."""

from pathlib import Path

import pytest

from suites.paper import methods, tuning
from suites.records.store import Store

ROOT = Path(__file__).resolve().parents[1]


def test_every_method_has_the_same_number_of_trials() -> None:
    trials = [len(tuning.trials(arm)) for arm in methods.PROFILES["tiny"].arms]
    assert set(trials) == {6}
    assert tuning.SEED not in methods.PROFILES["tiny"].seeds


@pytest.mark.parametrize("arm", methods.PROFILES["tiny"].arms, ids=lambda arm: arm.layer)
def test_learning_rates_are_the_best_trials(arm) -> None:
    """suites/paper/methods.py states what the committed tuning records found."""
    files = [
        results for _, results in Store(ROOT / "results").files("records", "tuning-tiny/*.json")
    ]
    assert files, "no committed tuning records"
    trials = {
        record.metrics["validation_loss_nats"]: record.case["optimization"]
        for record in files[-1].records
        if record.case["layer"] == arm.layer and record.status == "ok"
    }
    best = trials[min(trials)]
    assert arm.optimization.learning_rate == best["learning_rate"]
    assert arm.optimization.table_learning_rate == best["table_learning_rate"]


def test_the_tuning_table_has_a_row_per_trial(suites, tmp_path: Path) -> None:
    done = suites("run", "tuning", "--profile", "smoke", "--layer", "dense", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| dense")]
    assert len(rows) == len(tuning.WITHOUT_TABLES)


def test_figure_1_and_table_1_are_made_of_the_same_runs(suites, tmp_path: Path) -> None:
    passages = tmp_path / "pile.jsonl"
    passages.write_text('{"text": "One million experts, one neuron each."}\n')
    words = ("--profile", "smoke", "--layer", "dense", "--evaluation", f"pile={passages}")
    done = suites("run", "isoflop", *words, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "# isoflop, profile smoke: compute-optimal models" in done.stdout
    assert "# isoflop, profile smoke: every point" in done.stdout
    folder = Path(done.stdout.split(" in ")[-1].strip())
    written = {path.name for path in folder.iterdir()}
    assert written >= {"records.json", "optima.md", "points.csv", "optima.tex", "isoflop.svg"}
    again = suites("run", "table1", *words, "--results", tmp_path)
    assert again.returncode == 0, again.stderr
    assert "6 of 6 runs exist already" in again.stderr
    assert "Pile: pile.jsonl, sha256 " in again.stdout
    assert "C4 is a gap" in again.stdout
