"""The procedure on invented noise, the verdicts of failing cells, and bad input."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from suites.analysis.statistics import Rounds
from suites.binary.case import Case
from suites.compare.verdict import exit_status
from suites.errors import UserError
from suites.records.commits import Repository
from suites.records.store import Store
from suites.regress import cells, report, run, worktrees
from suites.regress.cells import gate_cells
from suites.regress.kernels import judged
from suites.regress.procedure import RUNS, gate
from suites.regress.report import count_rows, kernel_rows, time_rows
from suites.regress.rounds import ROLES, Harness
from suites.regress.simulation import rates
from suites.regress.worker import Request
from suites.regress.worktrees import Stage, stages
from suites.verbs import regress

ROOT = Path(__file__).resolve().parents[2]
STAGE = Stage("c" * 40, Path("nowhere"), Path("nowhere"))


def rounds(ratio: float = 1.0, noise: float = 0.002, seed: int = 0) -> Rounds:
    base, again, head = np.random.default_rng(seed).lognormal(-7, noise, (3, 7))
    return Rounds(base=base, again=again, head=ratio * head)


def test_rates() -> None:
    silent, slow = rates(0.0, 40, seed=1), rates(0.05, 40, seed=1)
    assert silent.false_alarm == 0
    assert slow.detected is not None
    assert slow.detected >= 0.85


def test_what_is_the_same_is_measured_once() -> None:
    asked = []

    def measure(names: set[str], number: int) -> dict[str, Rounds]:
        asked.append(sorted(names))
        ratios = {"same": 1.0, "slow": 1.1, "noisy": 1.04}
        return {
            name: rounds(ratios[name], 0.06 if name == "noisy" else 0.002, number) for name in names
        }

    found = gate(["same", "slow", "noisy"], measure)
    assert asked == [["noisy", "same", "slow"], ["noisy", "slow"], ["noisy"]]
    assert len(asked) == RUNS
    assert {name: decision for name, (decision, _) in found.items()} == {
        "same": "within",
        "slow": "above",
        "noisy": "undecided",
    }


def test_a_cell_that_breaks_in_the_second_run_is_not_decided() -> None:
    found = gate(["slow"], lambda names, number: {} if number else {"slow": rounds(1.2)})
    assert found == {}


def harness(**changes) -> Harness:
    chosen = {cell.name: cell for cell in gate_cells("cpu", quick=True)}
    fields = {"base": STAGE, "head": STAGE, "cells": chosen, "rounds": 5, "seed": 0}
    return Harness(**fields | {"together": True} | changes)


@pytest.mark.parametrize(
    ("sides", "verdict", "status"),
    [
        ({"head": "it broke"}, "FAILED", 1),
        ({"base": "no such layer"}, "NEW", 4),
        ({"base": "broken", "head": "broken"}, "INVALID", 3),
    ],
)
def test_failing_cells(sides: dict[str, str], verdict: str, status: int) -> None:
    found = harness()
    found.failures = dict.fromkeys(found.cells, sides)
    rows = time_rows(found, {})
    assert {row.verdict for row in rows} == {verdict}
    assert exit_status(rows) == status


def test_unmeasured_and_throttled_cells_are_no_pass() -> None:
    found = harness()
    assert exit_status(time_rows(found, {})) == 3
    found.invalid = dict.fromkeys(found.cells, "hardware slowdown")
    rows = time_rows(found, {})
    assert {(row.verdict, row.cause) for row in rows} == {("INVALID", "hardware slowdown")}
    assert exit_status(time_rows(harness(cells={}), {})) == 4


def decided(control: float) -> list[str]:
    found = harness()
    measured = {name: rounds(control if "gemm" in name else 1.1) for name in found.cells}
    found.runs = {name: [part] for name, part in measured.items()}
    rows = time_rows(found, gate(measured, lambda names, _: {n: measured[n] for n in names}))
    return [row.verdict for row in rows]


def test_a_moved_control_invalidates_the_gate() -> None:
    assert decided(1.0) == ["SAME", "SLOWER", "SLOWER"]
    assert decided(1.2) == ["INVALID", "INVALID", "INVALID"]


@pytest.mark.parametrize(
    ("base", "head", "verdict"),
    [(5.0, 5.0, "SAME"), (5.0, 6.0, "MORE"), (5.0, 4.0, "FEWER"), (None, 4.0, "NEW")],
)
def test_counts(base, head, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = harness()
    sides = tuple({} if value is None else {"parameters": value} for value in (base, head))
    monkeypatch.setattr(found, "counts", lambda: dict.fromkeys(found.cells, sides))
    assert {row.verdict for row in count_rows(found)} == {verdict}


@pytest.mark.parametrize(
    ("metric", "base", "head", "verdict"),
    [
        ("k.pair_instructions", 104.0, 104.0, "SAME"),
        ("k.pair_instructions", 104.0, 109.5, "MORE"),
        ("k.stack_bytes", 0.0, 8.0, "MORE"),
        ("k.row_load_bytes", 16.0, 2.0, "MORE"),
        ("k.resident_warps", 16.0, 28.0, "FEWER"),
    ],
)
def test_a_dearer_binary_is_a_finding(metric, base, head, verdict, monkeypatch) -> None:
    found = harness()
    monkeypatch.setattr(
        found, "kernel_counts", lambda: {"forward": ({metric: base}, {metric: head})}
    )
    assert [row.verdict for row in kernel_rows(found)] == [verdict]


def test_a_loop_unrolled_further_is_judged_by_the_pair() -> None:
    counts = {
        "k.loop_instructions": 832,
        "k.pair_instructions": 104,
        "k.registers": 61,
        "launches": 1,
    }
    assert judged(counts) == {"k.pair_instructions": 104, "launches": 1}
    assert judged({"k.loop_instructions": 832}) == {"k.loop_instructions": 832}


@pytest.mark.slow
def test_kernels_of_both_commits_are_compiled(scratch: Repository, monkeypatch) -> None:
    """HEAD loads the up rows 16 bits at a time, as it can no longer tell how they are aligned."""
    pytest.importorskip("triton")
    git(scratch.root, "reset", "--quiet", "--hard", "HEAD~1")
    kernel = scratch.root / "peer" / "kernels" / "fused.py"
    text = kernel.read_text()
    assert "up_ptr + row" in text
    kernel.write_text(text.replace("up_ptr + row", "up_ptr + row * (score == score)"))
    git(scratch.root, "commit", "--quiet", "--all", "--message", "narrow")
    case = Case(operation="forward", target="sm_90", dim=256, tokens=2048)
    monkeypatch.setattr("suites.regress.rounds.CASES", {"kernels forward": case})
    commits = [scratch.resolve("HEAD~1"), scratch.resolve("HEAD")]
    with stages(scratch, commits) as (base, head):
        rows = kernel_rows(harness(base=base, head=head))
    found = {row.metric.partition(".")[2]: row.verdict for row in rows}
    assert found["pair_instructions"] == found["row_load_bytes"] == "MORE"
    assert exit_status(rows) == 1


def test_orders_rotate_and_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    found = harness(rounds=6, progress=lambda _: None)
    monkeypatch.setattr(found, "turns", lambda group, cells: [])
    found.measure(set(found.cells), 0)
    for position in range(3):
        assert sorted(order[position] for order in found.order) == sorted(ROLES * 2)


@pytest.fixture
def scratch(tmp_path: Path) -> Repository:
    """A small repository whose two commits hold this checkout's packages; HEAD computes more."""
    tree = tmp_path / "repository"
    tree.mkdir()
    for name in ("peer", "baselines", "suites"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(tree / name)], check=True)

    git(tree, "init", "--quiet")
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "--message", "base")
    source = (tree / "baselines" / "dense.py").read_text()
    assert "4 * dim" in source
    (tree / "baselines" / "dense.py").write_text(source + "\nraise RuntimeError('broken')\n")
    git(tree, "commit", "--quiet", "--all", "--message", "broken")
    return Repository(tree)


def git(tree: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(tree), *identity, *arguments], check=True, capture_output=True)


def test_a_broken_head_fails_and_the_tree_is_left_alone(
    scratch: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = run.Plan(
        base=scratch.resolve("HEAD~1"), head=scratch.resolve("HEAD"), device="cpu", quick=True,
        exact=True,
    )  # fmt: skip
    (scratch.root / "untracked").write_text("mine")
    monkeypatch.setattr(run, "compiler_installed", lambda: False)
    rows, notes, folder = run.run_gate(plan, scratch, Store(tmp_path))
    assert "kernels are not counted: triton is not installed" in notes[-1]
    assert {row.verdict for row in rows} == {"FAILED"}
    assert "RuntimeError: broken" in rows[0].cause
    assert exit_status(rows) == 1
    assert (folder / "gate.md").exists()
    assert scratch.changes() == "?? untracked"
    assert scratch.git("worktree", "list", "--porcelain", "-z").count("worktree ") == 1


def test_foreign_code_is_not_measured(scratch: Repository, tmp_path: Path) -> None:
    commit = scratch.resolve("HEAD~1")
    with stages(scratch, [commit, commit]) as (base, head):
        (base.folder / "peer").unlink()
        (base.folder / "peer").symlink_to(ROOT / "peer")
        found = harness(base=base, head=head)
        with pytest.raises(UserError, match=r"peer\S* was imported from .*, not from"):
            found.counts()


def test_no_room_for_stages(scratch: Repository, tmp_path: Path, monkeypatch) -> None:
    """Folders whose names are too long stand for a disk without room."""
    commit = scratch.resolve("HEAD")
    monkeypatch.setattr(worktrees.tempfile, "tempdir", str(tmp_path / ("x" * 300)))
    with (
        pytest.raises(UserError, match=r"cannot lay out commits .*: File name too long; TMPDIR"),
        stages(scratch, [commit, commit]),
    ):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(worktrees, "stage", lambda *_: Path("/dev/null/x").mkdir())
    with (
        pytest.raises(UserError, match=r"cannot lay out commits .*: Not a directory; TMPDIR"),
        stages(scratch, [commit, commit]),
    ):
        pass
    assert scratch.git("worktree", "list", "--porcelain", "-z").count("worktree ") == 1


def test_what_fails_while_stages_stand_is_no_matter_of_room(scratch: Repository) -> None:
    commit = scratch.resolve("HEAD")
    with pytest.raises(OSError, match="mine"), stages(scratch, [commit, commit]):
        raise OSError("mine")


def test_a_commit_without_the_packages(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no peer, baselines, suites/layers.py"):
        worktrees.stage("c" * 40, tmp_path, tmp_path / "stage")


def test_options_name_only_what_the_comparison_sets() -> None:
    peer = next(cell for cell in gate_cells("cpu", quick=True) if cell.layer == "peer")
    assert set(peer.options) == {"experts", "heads", "topk"}
    assert report.label(gate_cells("cpu", quick=False)[0]) == "control-gemm-float32"
    assert set(cells.POINTS) == {"cpu", "cuda"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "HEAD"), "unknown commit 'nowhere'"),
        (("HEAD", "--output=x"), "unknown commit '--output=x'"),
        (("HEAD", "HEAD", "--device", "cuda"), "torch sees no GPU"),
    ],
)
def test_bad_input(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    options = [] if "--device" in arguments else ["--"]
    done = CliRunner().invoke(regress.command, [*options, *arguments])
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)


def test_a_dirty_tree_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Repository, "changes", lambda self: " M peer/layer.py")
    done = CliRunner().invoke(regress.command, ["HEAD"])
    assert isinstance(done.exception, UserError)
    assert "changes that no commit holds (1 files)" in str(done.exception)


def test_a_worker_answers_in_any_locale() -> None:
    """An error with a √ in it ended the worker where the locale has no such letter."""
    cell = next(cell for cell in gate_cells("cpu", quick=True) if cell.layer == "peer")
    impossible = cell.model_copy(update={"options": cell.options | {"topk": 10**6}})
    asked = (
        "import sys\nfrom pathlib import Path\n"
        "from suites.regress.process import Worker\nfrom suites.regress.worker import Request\n"
        "from suites.regress.worktrees import Stage\nroot = Path.cwd()\n"
        "with Worker(Stage('c' * 40, root, root)) as worker:\n"
        "    print(ascii(worker.ask(Request.model_validate_json(sys.argv[1])).failure))"
    )
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", asked, Request(cell=impossible).model_dump_json()],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert r"ValueError: topk must be at most \u221aexperts" in done.stdout, done.stderr
