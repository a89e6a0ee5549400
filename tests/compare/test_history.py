"""Change points, and the commit that bisect help names."""

import numpy as np
import pytest

from suites.compare.history import change_points
from tests.lab import Lab, environment, methods, training


def test_change_points() -> None:
    noise = np.random.default_rng(0).normal(0, 0.004, 20)
    level = np.exp(noise)
    assert change_points(level) == []
    level[12:] *= 1.05
    assert change_points(level) == [12]
    assert change_points(np.ones(12)) == []
    spiked = np.exp(noise)
    spiked[7] *= 1.5
    assert change_points(spiked) == []


def test_history(lab: Lab, command) -> None:
    commits = [lab.commit(f"commit {number}") for number in range(12)]
    measured = [n for n in range(12) if n not in (6, 7, 8)]
    for number in measured:
        lab.measure(commits[number], methods(0.08 if number >= 9 else number * 1e-5))
    done = command("history", "--suite", "methods", "--case", "peer", "--results", lab.store.root)
    assert done.status == 0, done.err
    assert done.out.count("changed  ") + done.out.count("changed\n") == 1
    assert f"changed after {commits[5][:12]}, at {commits[9][:12]} or one of 3" in done.out
    assert f"measure {commits[7][:12]} next" in done.out
    folder = lab.store.root / "scratch" / "history"
    assert {path.suffix for path in folder.iterdir()} == {".svg", ".png"}
    before = next(folder.glob("*.svg")).read_bytes()
    command("history", "--suite", "methods", "--case", "peer", "--results", lab.store.root)
    assert next(folder.glob("*.svg")).read_bytes() == before


def test_the_commit_to_blame(lab: Lab, command) -> None:
    for number in range(8):
        commit = lab.commit(f"commit {number}")
        lab.measure(commit, methods(0.08 if number >= 4 else number * 1e-5))
    done = command("history", "--suite", "methods", "--case", "peer", "--results", lab.store.root)
    assert "commit 4" in done.out.splitlines()[-3]
    assert done.out.splitlines()[-3].startswith("- changed at")


def test_times_of_other_machines_are_left_out(lab: Lab, command) -> None:
    for number in range(4):
        cpu = "old" if number < 2 else "new"
        lab.measure(lab.commit(), environment=environment(cpu=cpu))
    arguments = ("--suite", "methods", "--case", "peer", "--metric", "tokens_per_s")
    done = command("history", *arguments, "--results", lab.store.root)
    assert "2 records of other machines are left out" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--suite", "other", "--case", "peer"), "has records of suite 'other'"),
        (
            ("--suite", "methods", "--case", "e"),
            "part of 2 names of 2 cells of methods; give one of:\n  dense\n  peer",
        ),
        (("--suite", "methods", "--case", "x"), "part of 0 names"),
        (("--suite", "methods", "--case", "peer", "--metric", "z_s"), "has no number 'z_s'"),
        (("--suite", "methods", "--case", "peer", "--head", "gone"), "unknown commit 'gone'"),
    ],
)
def test_bad_input(lab: Lab, command, arguments: tuple[str, ...], message: str) -> None:
    lab.measure(lab.commit())
    done = command("history", *arguments, "--results", lab.store.root)
    assert done.status == 2
    assert message in done.err


def test_of_many_cells_the_nearest_are_named(lab: Lab, command) -> None:
    """One line of seventeen thousand characters is no answer."""
    many = [training(f"layer{number}", 0, 1.7) for number in range(40)]
    lab.measure(lab.commit(), many)
    done = command("history", "--suite", "methods", "--case", "layr17", "--results", lab.store.root)
    lines = done.err.splitlines()
    assert lines[1] == "  layer17"
    assert lines[-1] == "  and 32 more"
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("metrics", "chosen"),
    [
        ({"evaluation_batch_leak_nats": 0.0}, "validation_loss_nats"),
        ({"evaluation_batch_leak_nats": 0.0, "active_parameters": 1}, "validation_loss_nats"),
    ],
)
def test_the_loss_is_what_history_follows(lab: Lab, command, metrics: dict, chosen: str) -> None:
    lab.measure(lab.commit(), methods(**metrics))
    done = command("history", "--suite", "methods", "--case", "peer", "--results", lab.store.root)
    assert chosen in done.out
