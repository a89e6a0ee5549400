"""The table and the plots, made of records alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from suites.errors import UserError
from suites.figures import FIGURES, save
from suites.records.store import Store, write
from suites.tables import TABLES


def measured(median_s: float, forward_flops: int = 1000, **more) -> dict:
    metrics = {
        "median_s": median_s,
        "quartile1_s": median_s,
        "quartile3_s": median_s,
        "forward_flops": forward_flops,
        "tokens_per_s": 1 / median_s,
    }
    metrics |= {"flops": 1e6, "bytes_moved": 1e6, "flops_per_s": 1e6 / median_s, "peak_bytes": 100}
    metrics |= {"roof_flops_per_s": 1e11, "roof_bytes_per_s": 1e10}
    return {"status": "ok", "metrics": metrics | more}


@pytest.fixture
def comparison(cell, result_file):
    def row(layer: str, tokens: int = 8, repeat: int = 0, **fields):
        update = {"layer": layer, "options": {}, "tokens": tokens, "repeat": repeat}
        return result_file(cell.model_copy(update=update), **fields)

    return [
        row("peer", **measured(4e-3, 1010)),
        row("dense", **measured(2e-3)),
        row("topk_moe", **measured(1e-3)),
        row("dense", repeat=1, **measured(2.2e-3)),
        row("peer_pytorch", status="skipped", reason="PEER-pytorch is not installed"),
        row("pkm", status="oom", reason="predicted: too large"),
        row("peer", tokens=16, **measured(7e-3)),
        row("dense", tokens=16, **measured(3e-3)),
    ]


def test_ratios_gaps_and_repeatability(comparison):
    (sheet,) = TABLES["layer_speed"](comparison)
    table = sheet.frame.set_index(["group", "row"])
    small = "forward T=8 D=16 N=64 hk=4 float32 uniform, equal forward flops"
    assert table.loc[(small, "peer"), "× dense"] == pytest.approx(2.0)
    assert table.loc[(small, "peer"), "× best"] == pytest.approx(4.0)
    assert table.loc[(small, "dense"), "mismatch"] == pytest.approx(-0.0099, abs=1e-4)
    assert table.loc[(small, "peer_pytorch"), "status"] == "skipped"
    rows = [row for group, row in table.index if group == small]
    assert rows[:4] == ["topk_moe", "dense", "dense again", "peer"]
    markdown = sheet.markdown()
    assert "one cell twice differs by 10.0%" in markdown
    assert "peer_pytorch: skipped, PEER-pytorch is not installed" in markdown
    assert "pkm: oom, predicted: too large" in markdown


def test_unmatched_rows_are_refused(comparison, cell, result_file):
    moe = cell.model_copy(update={"layer": "expert_choice", "options": {}})
    comparison.append(result_file(moe, **measured(1e-3, forward_flops=1500)))
    with pytest.raises(UserError, match=r"not comparable: forward_flops .* expert_choice \+48"):
        TABLES["layer_speed"](comparison)


def test_order_of_records_does_not_matter(comparison):
    forward = TABLES["layer_speed"](comparison)[0].csv()
    assert forward == TABLES["layer_speed"](comparison[::-1])[0].csv()


def test_plots_are_the_same_bytes_each_time(comparison, tmp_path):
    written = []
    for folder in ("first", "second"):
        for name, figure in FIGURES["layer_speed"](comparison).items():
            written += [
                (path.name, path.read_bytes()) for path in save(figure, tmp_path / folder / name)
            ]
    half = len(written) // 2
    assert written[:half] == written[half:]
    names = {name for name, _ in written}
    assert {"time-tokens.svg", "memory-tokens.png", "roofline.svg"} <= names


def test_tables_and_plots_need_no_torch(comparison, tmp_path):
    for file in comparison:
        write(Store(tmp_path).published_path(file), file)
    root = Path(__file__).resolve().parents[2]
    for verb in ("tables", "figures"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.without_torch", "suites", verb, "--results", tmp_path],
            capture_output=True,
            text=True,
            cwd=root,
        )
        assert done.returncode == 0, done.stderr
    assert "layer_speed, profile tiny" in (tmp_path / "tables" / "layer_speed-tiny.md").read_text()
    assert (tmp_path / "figures" / "layer_speed-tiny" / "roofline.svg").exists()
