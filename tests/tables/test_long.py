"""The long table: every number once, with its unit, its run and the date of its commit."""

from pathlib import Path

import pandas as pd
import pytest

from suites.records.record import Record
from suites.tables.long import COLUMNS, unit
from suites.verbs.export import command
from tests.lab import Lab, training


@pytest.fixture
def exported(lab: Lab, tmp_path: Path) -> Path:
    broken = Record(case={"layer": "pkm", "seed": 3}, status="oom", reason="too large")
    lab.measure(lab.commit(), [training("dense", 0, 1.5), training("peer", 1, 1.25), broken])
    to = tmp_path / "out"
    command.main(["--to", str(to), "--results", str(lab.store.root)], standalone_mode=False)
    return to


def test_every_number_is_a_row_with_its_run(exported: Path) -> None:
    rows = pd.read_parquet(exported / "results.parquet")
    assert list(rows.columns) == list(COLUMNS)
    losses = rows[rows["metric"] == "validation_loss_nats"].set_index("layer")
    assert losses["value"].to_dict() == {"dense": 1.5, "peer": 1.25}
    assert losses["seed"].to_dict() == {"dense": 0, "peer": 1}
    assert set(losses["unit"]) == {"nats"}
    assert losses["commit_date"].str.match(r"20\d\d-\d\d-\d\dT").all()
    (failed,) = rows[rows["status"] == "oom"].itertuples()
    assert failed.reason == "too large"
    assert pd.isna(failed.value)


def test_the_csv_says_the_same(exported: Path) -> None:
    parquet = pd.read_parquet(exported / "results.parquet")
    text = pd.read_csv(exported / "results.csv")
    assert text["value"].astype("Float64").equals(parquet["value"])
    assert text["metric"].fillna("").equals(parquet["metric"].fillna(""))


def test_the_card_names_columns_and_loads_by_its_own_words(exported: Path, monkeypatch) -> None:
    card = (exported / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert all(f"- `{name}`: " in card for name in COLUMNS)
    monkeypatch.chdir(exported)
    (line,) = [line.strip() for line in card.splitlines() if "pandas.read_parquet" in line]
    scope = {"pandas": pd}
    exec(line, scope)
    assert len(scope["rows"]) == 7


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("median_s", "seconds"),
        ("tokens_per_s", "tokens/s"),
        ("peak_bytes", "bytes"),
        ("ffw_forward_flops", "FLOPs"),
        ("c4_bits_per_byte", "bits/byte"),
        ("time_over_floor", ""),
    ],
)
def test_units_are_read_off_names(metric: str, expected: str) -> None:
    assert unit(metric) == expected
