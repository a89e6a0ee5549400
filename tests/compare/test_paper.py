"""The published numbers, and what a run says about them."""

import json
from pathlib import Path

import pytest

from suites.records.store import Store
from suites.verbs.compare import verdict_status

ROOT = Path(__file__).resolve().parents[2]
(METHODS,) = (ROOT / "results" / "records" / "methods-tiny").glob("*.json")


def test_the_paper_is_compared_claim_by_claim(command) -> None:
    """Ratios of another scale's perplexities were INVALID in every row; a claim has a direction."""
    done = command("compare", "paper", METHODS, "--format", "json")
    rows = {row["claim"]: row["verdict"] for row in json.loads(done.out)["rows"]}
    assert rows == {
        "PEER has a lower perplexity than dense for the same training FLOPs": "agrees",
        "PEER has a lower perplexity than MoE for the same training FLOPs": "agrees",
        "PEER has a lower perplexity than PKM for the same training FLOPs": "disagrees",
    }
    assert done.status == 1
    assert "INVALID" not in command("compare", "paper", METHODS).out


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        (["agrees", "agrees"], 0),
        (["agrees", "disagrees", "undecided (one seed)"], 1),
        (["agrees", "undecided (would need 4 seeds)"], 3),
    ],
)
def test_status(verdicts: list[str], status: int) -> None:
    assert verdict_status(verdicts) == status


def test_nothing_that_a_claim_rests_on(command) -> None:
    (flops,) = (ROOT / "results" / "records" / "flops-tiny").glob("*.json")
    done = command("compare", "paper", flops)
    assert done.status == 2
    assert "has no records that a claim of the paper rests on; it has flops" in done.err


def test_table_2_is_transcribed() -> None:
    (_, file), *_ = Store(ROOT / "results").files("published", "table2.json")
    unevenness = [record.metrics["unevenness_nats"] for record in file.records]
    assert unevenness == [0.45, 0.30, 0.63, 0.44, 0.97, 0.66, 1.52, 1.06]
