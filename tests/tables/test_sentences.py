"""The sentence below a table says what its rows say."""

import json
from pathlib import Path

import pandas as pd
import pytest

from suites.analysis.judgement import interval
from suites.tables.sentences import (
    between,
    counted,
    labels,
    listed,
    of_arms,
    of_peer,
    of_trials,
    several,
)
from suites.tables.sheet import Sheet

ROOT = Path(__file__).resolve().parents[2]


def arms(*rows: tuple[str, object, float | None, float | None, float | None]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["method", "heads", "difference", "low", "high"])
    return frame.assign(loss=2.0, seeds=3)


def test_both_ends_of_the_arms_and_what_is_beyond_chance() -> None:
    rows = arms(
        ("dense", "–", None, None, None),
        ("peer", 4, -0.25, -0.5, -0.125),
        ("peer", 8, 0.0625, -0.25, 0.375),
        ("pkm", 4, 0.5, 0.25, 0.75),
    )
    assert of_arms(rows, ["method", "heads"], "method") == (
        "Against dense, in nats per token, peer, heads = 4 is 0.250 below (-0.500 … -0.125) and pkm is "
        "0.500 above (+0.250 … +0.750); of 3 differences 1 below and 1 above are beyond chance (3 seeds)."
    )


def test_one_arm_beside_its_reference() -> None:
    rows = arms(("peer", 4, None, None, None), ("peer", 8, 0.0625, -0.25, 0.375))
    assert of_arms(rows, ["heads"], "heads") == (
        "Against heads = 4, in nats per token, heads = 8 is 0.062 above (-0.250 … +0.375); within "
        "chance (3 seeds)."
    )


def test_one_seed_has_no_interval_and_is_within_chance() -> None:
    rows = arms(("peer", 4, None, None, None), ("peer", 8, 0.5, None, None)).assign(seeds=1)
    assert of_arms(rows, ["heads"], "heads").endswith(
        "heads = 8 is 0.500 above; within chance (1 seed)."
    )
    alone = arms(("peer", 4, None, None, None))
    assert of_arms(alone, ["heads"], "heads") == "One arm alone, at 2.000 nats per token."


def test_an_arm_is_named_by_what_differs_within_its_method() -> None:
    rows = arms(("peer", 4, 0, 0, 0), ("peer", 8, 0, 0, 0), ("dense", "–", 0, 0, 0))
    assert labels(rows, ["method", "heads"]) == ["peer, heads = 4", "peer, heads = 8", "dense"]


def test_the_best_trial_of_each_method_with_its_rates() -> None:
    rows = pd.DataFrame(
        [("peer", 0.01, 4.0, 1.5), ("peer", 0.02, 4.0, 1.25), ("dense", 0.01, None, 1.0)],
        columns=["method", "learning rate", "table rate", "loss (nats/token)"],
    )
    rates = ("learning rate", "table rate", "table rates")
    assert of_trials(rows, rates) == (
        "Best trial of each method, in nats per token: dense 1.000 at learning rate 0.01 and peer 1.250 "
        "at learning rate 0.02 and table rate 4.0."
    )
    assert (
        of_trials(rows[1:], rates)
        == "Methods by loss, in nats per token: dense 1.000 and peer 1.250."
    )


def test_where_peer_stands() -> None:
    gaps = {
        "dense": interval([-0.5, -0.5, -0.25]),
        "pkm": interval([0.5, 0.5, 0.75]),
        "moe": interval([-1, 1, 0]),
    }
    assert of_peer(gaps) == (
        "PEER is ahead of dense (0.42); it is behind pkm (0.58); it is within chance of moe (0.00)."
    )
    assert of_peer({"dense": interval([-0.5])}) == "PEER is within chance of dense (0.50)."


def test_words() -> None:
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == [
        "a",
        "a and b",
        "a, b and c",
    ]
    assert counted(["b", "a", "b"]) == "b in 2 and a in 1"
    assert [several(1, "seed"), several(0, "seed")] == ["1 seed", "0 seeds"]
    assert [between(pd.Series([2, 10])), between(pd.Series([1.66, 1.71]))] == ["2 to 10", "1.7"]


def test_every_form_of_a_table_has_its_sentence(tmp_path: Path) -> None:
    frame = pd.DataFrame({"loss": [1.0]})
    sheet = Sheet(title="t", says="Loss is one.", frame=frame)
    sheet.write(tmp_path, latex=True)
    assert "\nLoss is one.\n" in (tmp_path / "table.md").read_text()
    assert "% Loss is one.\n" in (tmp_path / "table.tex").read_text()
    assert "\nLoss is one.\n" in sheet.printed(wide=False)
    assert json.loads(json.dumps(sheet.data()))["says"] == "Loss is one."


@pytest.mark.parametrize(
    "table", sorted((ROOT / "results" / "tables").glob("*.md")), ids=lambda p: p.stem
)
def test_every_committed_table_ends_with_a_sentence(table: Path) -> None:
    _, _, after = table.read_text().rpartition("|\n\n")
    sentence = after.partition("\n")[0]
    assert sentence[0].isupper() or sentence[0].isdigit()
    assert sentence.endswith(".")
    assert not {"nan", "None"} & set(sentence.replace(",", " ").split())
