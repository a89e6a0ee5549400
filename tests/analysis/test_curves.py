"""The isoFLOP fit and its tables, on losses whose minimum is known."""

import math
from pathlib import Path

import numpy as np
import pytest

from suites.analysis.curves import curves, spikes
from suites.errors import UserError
from suites.figures import FIGURES, save
from suites.records.record import Record, ResultFile
from suites.tables import TABLES
from tests.lab import result_file

BEST = {"dense": 1e5, "peer": 3e5}  # compute-optimal parameters
LOWEST = {"dense": 2.0, "peer": 1.9}
SIZES = (2e4, 6e4, 2e5, 6e5, 2e6)
BUDGETS = (1e10, 4e10)


def record(layer: str, size: float, budget: float, seed: int, **changes) -> Record:
    noise = 0.002 * ((seed * 7 + round(math.log(size) * 10)) % 5 - 2)
    loss = LOWEST[layer] - math.log10(budget) / 100 + noise
    loss += 0.05 * math.log(size / BEST[layer]) ** 2 if "loss" not in changes else 0
    loss = changes.pop("loss", loss)
    text = {"source": "stdlib", "tokenizer": "bytes", "sha256": "0" * 64}
    case = {
        "layer": layer,
        "options": {},
        "sites": [1],
        "seed": seed,
        "budget_flops": budget,
        "text": text,
        "backbone": {"blocks": 2, "dim": round(size / 1e4), "attention_heads": 2, "context": 8},
        "optimization": {"learning_rate": 1e-3, "table_rate": 1e-2},
        "threads": 1,
        "device": "cpu",
    }
    metrics = {
        "parameters": int(size),
        "active_parameters": int(size),
        "table_parameters": 0,
        "steps": 100,
        "tokens": 1000,
        "training_flops": budget * 1.001,
        "tokens_per_s": 1e3,
        "evaluation_tokens": 100,
        "validation_loss_nats": loss,
        "validation_perplexity": math.exp(loss),
    }
    return Record(case=case, status="ok", metrics=metrics | changes)


def ladder(sizes=SIZES, seeds=(0, 1, 2), **changes) -> ResultFile:
    records = [
        record(layer, size, budget, seed, **changes)
        for seed in seeds
        for budget in BUDGETS
        for size in sizes
        for layer in BEST
    ]
    return result_file("c" * 40, records, suite="isoflop")


def test_the_minimum_is_found_with_its_interval() -> None:
    found = curves([ladder()])
    assert [(c.label, c.budget_flops) for c in found] == [
        (layer, budget) for budget in BUDGETS for layer in BEST
    ]
    for curve in found:
        optimum = curve.optimum
        assert optimum is not None
        assert optimum.parameters == pytest.approx(BEST[curve.layer], rel=0.1)
        expected = LOWEST[curve.layer] - math.log10(curve.budget_flops) / 100
        assert optimum.loss == pytest.approx(expected, abs=0.005)
        assert optimum.parameters_interval is not None
        low, high = optimum.parameters_interval
        assert low < optimum.parameters < high < 1.2 * low
        assert optimum.loss_interval is not None
        assert optimum.loss_interval[0] < optimum.loss < optimum.loss_interval[1]
        assert list(curve.loss_by_seed()) == [0, 1, 2]
    again = curves([ladder()])
    assert [c.optimum for c in again] == [c.optimum for c in found]


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Of the loss at the optimum, for five sizes with three seeds of normal scatter."""
    generator = np.random.default_rng(5)
    x, covered, trials = np.log(SIZES), 0, 60
    truth = 2 + 0.05 * np.log(np.array(SIZES) / 1e5) ** 2
    for _ in range(trials):
        file = ladder()
        rows = [
            r for r in file.records if (r.case["layer"], r.case["budget_flops"]) == ("dense", 1e10)
        ]
        noisy = []
        for r in rows:
            at = int(np.argmin(np.abs(x - math.log(r.metrics["parameters"]))))  # type: ignore[arg-type]
            loss = truth[at] + 0.02 * generator.standard_normal()
            noisy.append(
                r.model_copy(update={"metrics": {**r.metrics, "validation_loss_nats": loss}})
            )
        (curve,) = curves([file.model_copy(update={"records": noisy})])
        assert curve.optimum is not None
        assert curve.optimum.loss_interval is not None
        low, high = curve.optimum.loss_interval
        covered += low < 2.0 < high
    assert 0.75 <= covered / trials <= 1.0


@pytest.mark.parametrize(
    ("sizes", "why"),
    [
        (SIZES[:2], "2 sizes; a parabola needs 3"),
        (SIZES[2:], "minimum on the lower edge of the ladder"),
        ((5e3, 2e4, 6e4), "minimum on the upper edge of the ladder"),
    ],
)
def test_no_optimum_without_a_minimum_inside_the_ladder(sizes: tuple, why: str) -> None:
    optima, points = TABLES["isoflop"]([ladder(sizes)])
    dense = optima.frame[optima.frame["method"] == "dense"]
    assert dense["parameters"].isna().all()
    assert dense["loss (nats/token)"].isna().all()
    assert any(f"{why}, so no optimum is reported" in note for note in optima.notes)
    assert len(points.frame) == 2 * 2 * len(sizes)


def test_one_seed_has_no_interval() -> None:
    (optima, _) = TABLES["isoflop"]([ladder(seeds=(0,))])
    assert optima.frame["parameters"].notna().all()
    assert optima.frame["loss, low"].isna().all()


def test_the_papers_gaps_stand_beside_ours() -> None:
    (optima, _) = TABLES["isoflop"]([ladder()])
    peer = optima.frame[optima.frame["method"] == "peer"]
    assert peer["− dense (nats)"].to_list() == pytest.approx([-0.1, -0.1], abs=0.01)
    assert peer["paper: − dense (nats)"].to_list() == pytest.approx([-0.145, -0.107], abs=1e-3)


def test_points_that_miss_their_budget_are_refused() -> None:
    with pytest.raises(UserError, match="not comparable: training_flops must lie within"):
        curves([ladder(training_flops=1.03e10)])


def test_arms_of_one_layer_are_told_apart() -> None:
    other = record("peer", 2e4, 1e10, 0)
    options = {"query_norm": None, "heads": 8}
    records = [
        other.model_copy(update={"case": other.case | {"options": options | {"query_norm": norm}}})
        for norm in ("batch", None)
    ]
    found = curves([result_file("c" * 40, records, suite="isoflop")])
    assert [c.label for c in found] == ["peer query_norm=batch", "peer query_norm=None"]


def test_a_faster_machine_leaves_what_repeats_as_it_is() -> None:
    sides = [TABLES["isoflop"]([ladder(tokens_per_s=speed)]) for speed in (1e3, 2e3)]
    points = [next(sheet for sheet in sheets if sheet.name == "points") for sheets in sides]
    assert points[0].csv() != points[1].csv()
    for slow, fast in zip(*sides, strict=True):
        assert slow.repeatable() == fast.repeatable()


def test_a_spike_is_named_and_scatter_is_not() -> None:
    steps = [float(step) for step in range(100)]
    scatter = [3 - 0.01 * step + 0.4 * (-1) ** step for step in range(100)]
    spiked = [loss + (2.0 if 60 <= step < 75 else 0) for step, loss in enumerate(scatter)]

    def said(losses: list[float]) -> str | None:
        series = {"step": steps, "train_loss_nats": losses}
        return spikes(record("dense", 2e4, 1e10, 0).model_copy(update={"series": series}))

    assert said(scatter) is None
    assert "training loss rose by 1.9" in (said(spiked) or "")


def test_table_1_takes_the_rung_nearest_to_the_optimum() -> None:
    file = ladder(wikitext_perplexity=20.0, wikitext_tokens=50, wikitext_loss_nats=3.0)
    perplexity, texts = TABLES["table1"]([file.model_copy(update={"suite": "table1"})])
    assert perplexity.frame["model"].to_list() == ["2 × 6", "2 × 20"] * 2
    assert (perplexity.frame["Wikitext"] == 20).all()
    assert perplexity.frame["paper: Wikitext"].to_list() == [29.14, 25.48, 21.21, 19.09]
    assert perplexity.frame["C4"].isna().all()
    assert any(note.startswith("C4 is a gap") for note in perplexity.notes)
    assert not any(note.startswith("Wikitext is a gap") for note in perplexity.notes)
    assert texts.frame["text"].to_list() == ["Wikitext"] * 4
    assert texts.frame["tokens"].to_list() == [50] * 4


def test_tables_are_latex_too() -> None:
    (optima, _) = TABLES["isoflop"]([ladder()])
    text = optima.latex()
    assert text.startswith("% isoflop, profile tiny: compute-optimal models\n% The lowest optimum")
    assert "\n% minimum of a parabola" in text
    assert r"\toprule" in text
    assert text.count(r"\\") == len(optima.frame) + 1


def test_the_figure_has_a_panel_per_budget_and_the_same_bytes_again(tmp_path: Path) -> None:
    files = [ladder()]
    for name in ("one", "two"):
        (figure,) = FIGURES["isoflop"](files).values()
        assert len(figure.axes) == len(BUDGETS)
        save(figure, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
