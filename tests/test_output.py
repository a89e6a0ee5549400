"""What a terminal shows fits it, and says what it leaves out."""

import pandas as pd
import pytest

from suites.output import WIDTH, fitted
from suites.paper import claims
from suites.records.store import RESULTS, Store
from suites.tables import TABLES
from suites.tables.sheet import Sheet
from tests.lab import Lab, methods


@pytest.fixture(scope="module")
def sheets() -> dict[str, Sheet]:
    found = {}
    for suite in ("methods", "isoflop", "table1", "query_norm", "decode_speed", "flops"):
        files = [file for _, file in Store(RESULTS).files("records", f"{suite}-tiny/*.json")]
        found |= {f"{suite} {sheet.name}".strip(): sheet for sheet in TABLES[suite](files)}
        if suite == "methods":
            found["claims"] = claims.sheet("tiny", {suite: files}, only=[suite])
    return found


def test_every_table_fits_a_terminal(sheets: dict[str, Sheet]) -> None:
    """The table of a run was 282 columns wide."""
    for name, sheet in sheets.items():
        _, table, says, notes = sheet.printed(wide=False).split("\n\n")
        headers = table.partition("---")[0]
        assert max(map(len, (table + "\n" + says).splitlines())) <= WIDTH, name
        for column in sheet.frame.columns:
            assert column.split()[0].split("/")[0] in headers + notes, name
    assert sheets["methods"].printed(wide=True) == sheets["methods"].markdown()


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("methods", ["method", "parameters", "tokens", "loss", "± (std)", "tokens/s"]),
        ("claims", ["claim", "paper", "ours", "low", "high", "verdict"]),
        ("decode_speed", ["group", "row", "median ms", "× dense", "status"]),
        ("isoflop optima", ["method", "budget", "parameters", "loss", "− dense"]),
    ],
)
def test_the_columns_that_matter_are_shown(sheets, name: str, columns: list[str]) -> None:
    headers = sheets[name].printed(wide=False).split("\n\n")[1].partition("---")[0]
    for column in columns:
        assert column in headers


def test_what_a_verb_prints_fits(lab: Lab, command) -> None:
    first, second = lab.commit(), lab.commit()
    lab.measure(first)
    lab.measure(second, methods(0.04))
    place = ("--results", lab.store.root)
    for arguments in (
        ["compare", first, second, *place],
        ["history", "--suite", "methods", "--case", "peer", *place],
        ["run", "isoflop", "--profile", "tiny", "--plan", *place],
    ):
        done = command(*arguments)
        assert done.status in (0, 1), done.err
        table = [line for line in done.out.splitlines() if not line.startswith(("- ", "wrote"))]
        assert max(map(len, table)) <= WIDTH, arguments
    assert "- --wide shows too: " in done.out


def test_left_out_columns_are_named() -> None:
    rows = [["x" * 30, "y" * 30, "z" * 30]] * 2
    table, left_out = fitted(["one", "two", "three"], rows)
    assert left_out == ["three"]
    assert table.splitlines()[2:] == [f"{'x' * 30}  {'y' * 30}", f"{'':30}  {'y' * 30}"]
    assert fitted(["one"], [["x" * 99]]) == (f"one\n{'-' * 99}\n{'x' * 99}", [])
    frame = pd.DataFrame({"method": ["dense"], "loss": [1.25], "commit": ["abc"]})
    about = {"title": "t", "says": "One method.", "formats": {"loss": ".2f"}}
    sheet = Sheet(frame=frame, brief=["method", "loss"], **about)
    assert sheet.printed(wide=False) == (
        "# t\n\nmethod  loss\n------  ----\ndense   1.25\n\nOne method.\n\n"
        "- --wide and the files show too: commit\n"
    )


def test_cells_break_where_a_number_stays_whole() -> None:
    table, _ = fitted(["a claim", "loss (nats/token)"], [["more experts are " * 9, "1,234.5678"]])
    assert max(map(len, table.splitlines())) <= WIDTH
    assert "1,234.5678" in table
