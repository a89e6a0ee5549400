"""The suite from profile to files: whole, byte-identical when repeated, and red without a handle."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from suites.budgets.flops import PROFILES, Profile, command, planned
from suites.errors import UserError
from suites.language_model.case import Backbone
from suites.measure import operators
from suites.records.store import read

SMALL = Profile(
    dims=(64,),
    matched_dims=(64,),
    experts=(32**2,),
    tokens=256,
    tolerance=0.05,
    backbone=Backbone(blocks=2, dim=64, attention_heads=2, context=256),
    vocabulary=64,
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "small", SMALL)


def run(results: Path) -> dict[str, bytes]:
    done = CliRunner().invoke(
        command, ["--profile", "small", "--results", str(results)], catch_exceptions=False
    )
    assert "Chinchilla" in done.output
    return {path.name: path.read_bytes() for path in results.rglob("*") if path.is_file()}


def test_twice_the_same_bytes(tmp_path: Path) -> None:
    first = run(tmp_path / "first")
    assert first == run(tmp_path / "second")
    assert {"counts.md", "matched.csv", "costs.svg", "costs.png"} <= set(first)
    records = read(next((tmp_path / "first").rglob("records.json"))).records
    assert [record.case_id for record in records] == planned("small", [])


def test_without_a_handle_the_run_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(operators.FORMULAS, "peer::experts")
    with pytest.raises(
        UserError, match="PEER executes operators that nothing counts: peer::experts"
    ):
        run(tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_unknown_profile() -> None:
    with pytest.raises(UserError, match="flops has no profile 'huge'; it has tiny"):
        planned("huge", [])
