"""The published numbers, and what a run says about them."""

import math
from pathlib import Path

import pytest

from suites.compare.paper import compare_paper
from suites.compare.sides import Side
from suites.errors import UserError
from suites.records.store import Store
from tests.lab import methods, result_file, training

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def paper() -> Side:
    files = [file for _, file in Store(ROOT / "results").files("published", "table1.json")]
    return Side("paper", files)


def test_gaps_are_those_of_the_paper(paper: Side) -> None:
    """In nats on C4: PEER beats dense by 0.145 and 0.107 (arXiv 2407.04153, Table 1)."""
    rows = compare_paper(paper, Side("run", [result_file("c" * 40)]))
    gaps = {row.cell: -math.log(row.base) for row in rows}
    assert gaps == pytest.approx(
        {"peer at 6e+18 FLOPs": 0.145, "peer at 2e+19 FLOPs": 0.107}, abs=5e-4
    )


def test_another_budget_confirms_directions_only(paper: Side) -> None:
    rows = compare_paper(paper, Side("run", [result_file("c" * 40)]))
    assert {row.verdict for row in rows} == {"INVALID"}
    assert {row.cause for row in rows} == {"budget 5e+11 FLOPs, text stdlib, direction agrees"}
    worse = compare_paper(paper, Side("run", [result_file("c" * 40, methods(0.5))]))
    assert {row.cause for row in worse} == {"budget 5e+11 FLOPs, text stdlib, direction differs"}


@pytest.mark.parametrize(
    ("gap", "verdict"), [(-0.145, "SAME"), (-0.05, "WORSE"), (-0.25, "BETTER")]
)
def test_the_same_budget_and_text_are_judged(paper: Side, gap: float, verdict: str) -> None:
    runs = [
        record.model_copy(
            update={
                "case": record.case | {"budget_flops": 6e18, "text": {"source": "hub:allenai/c4@1"}}
            }
        )
        for layer, shift in (("dense", 0), ("peer", gap))
        for seed in range(3)
        for record in [training(layer, seed, 3.0 + shift + seed * 1e-4)]
    ]
    rows = compare_paper(paper, Side("run", [result_file("c" * 40, runs)]))
    assert rows[0].verdict == verdict
    assert rows[1].verdict == "INVALID"  # the other budget


def test_nothing_to_compare(paper: Side) -> None:
    only = Side("run", [result_file("c" * 40, [training("peer", 0, 1.7)])])
    with pytest.raises(UserError, match="no records of dense beside another method"):
        compare_paper(paper, only)


def test_table_2_is_transcribed() -> None:
    (_, file), *_ = Store(ROOT / "results").files("published", "table2.json")
    unevenness = [record.metrics["unevenness_nats"] for record in file.records]
    assert unevenness == [0.45, 0.30, 0.63, 0.44, 0.97, 0.66, 1.52, 1.06]
