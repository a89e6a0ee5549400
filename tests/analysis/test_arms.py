"""Tables of experiments that vary a layer, from constructed records."""

from collections.abc import Callable

import pytest

from suites.analysis.arms import arms
from suites.analysis.comparison import Comparison
from suites.errors import UserError
from suites.figures import FIGURES
from suites.records.record import Code, Environment, Record, ResultFile
from suites.tables import TABLES
from tests.lab import training_case

ENVIRONMENT = Environment(
    platform="p", cpu="c", cores=2, memory_bytes=1, gpu=None, python="3.11", packages={}
)
CODE = Code(commit="a" * 40, dirty=False, sha256="b" * 64)


def record(seed: int, loss: float, layer: str = "peer", budget: float = 1e9, **metrics) -> Record:
    options = {
        name: metrics.pop(name)
        for name in ("experts", "query_norm", "heads", "topk")
        if name in metrics
    }
    case = training_case(layer, options, seed, budget)
    given = {
        "validation_loss_nats": loss,
        "validation_perplexity": 2.718**loss,
        "training_flops": budget,
        "evaluation_tokens": 100,
        "parameters": 1000,
        "tokens": 50,
        "train_s": 1.0,
    }
    return Record(case=case, status="ok", metrics=given | metrics)


def file(suite: str, *records: Record) -> ResultFile:
    return ResultFile(
        suite=suite,
        profile="tiny",
        code=CODE,
        environment=ENVIRONMENT,
        records=list(records),
    )


def norms(unevenness: Callable[[str | None], float]) -> ResultFile:
    return file(
        "query_norm",
        *(
            record(
                seed,
                loss=3 + 0.1 * seed - (0.02 if norm else 0),
                experts=N,
                query_norm=norm,
                expert_usage_percent=99.0,
                unevenness_nats=unevenness(norm),
            )
            for seed in (0, 1)
            for N in (256**2, 512**2)
            for norm in (None, "batch")
        ),
    )


def test_differences_are_to_the_first_arm_within_a_group_and_paired() -> None:
    (sheet,) = TABLES["query_norm"]([norms(lambda norm: 0.3 if norm else 0.5)])
    frame = sheet.frame
    assert list(frame["N"]) == [256**2, 256**2, 512**2, 512**2]
    assert list(frame["query norm"]) == ["none", "batch"] * 2
    assert frame["difference (nats)"].isna().tolist() == [True, False] * 2
    # Seeds lie 0.1 apart, pairs agree to the bit of rounding.
    assert frame["difference (nats)"].dropna().tolist() == pytest.approx([-0.02, -0.02])
    assert frame["high"].dropna().tolist() == pytest.approx([-0.02, -0.02], abs=1e-9)
    assert frame["± (std)"].tolist() == pytest.approx([0.1 / 2**0.5] * 4)


def test_the_papers_values_stand_beside_ours() -> None:
    (sheet,) = TABLES["query_norm"]([norms(lambda norm: 0.3)])
    assert sheet.frame["paper: perplexity"].tolist() == [22.61, 22.55, 21.54, 21.47]
    assert sheet.frame["paper: unevenness"].tolist() == [0.63, 0.44, 0.97, 0.66]
    assert any("100 validation tokens" in note for note in sheet.notes)


def test_budgets_that_miss_are_refused() -> None:
    files = [
        file(
            "scores",
            record(0, 3.0, training_flops=1.0e9),
            record(0, 3.1, experts=4, training_flops=1.1e9),
        )
    ]
    with pytest.raises(UserError, match="row 2 \\+10.00%"):
        TABLES["scores"](files)


def test_parameters_that_miss_are_refused() -> None:
    files = [file("equal_parameters", record(0, 3.0), record(0, 3.0, "pkm", parameters=1100))]
    with pytest.raises(UserError, match="not comparable: parameters .* row 2 \\+10.00%"):
        TABLES["equal_parameters"](files)


def test_times_are_named_and_left_out_of_what_repeats() -> None:
    sides = [
        file("equal_time", record(0, 3.0, "dense"), record(0, 3.1, "peer", train_s=seconds))
        for seconds in (1.1, 1.3)
    ]
    sheets = [TABLES["equal_time"]([side])[0] for side in sides]
    assert sheets[0].frame["seconds against the first row"].tolist() == pytest.approx([0, 0.1])
    assert sheets[0].csv() != sheets[1].csv()
    assert sheets[0].repeatable() == sheets[1].repeatable()


def test_hk_is_the_product_and_the_figure_has_a_line_for_each() -> None:
    records = [
        record(0, 3.0 - 0.01 * heads, heads=heads, topk=active // heads)
        for active in (8, 16)
        for heads in (2, 4)
    ]
    (sheet,) = TABLES["active_experts"]([file("active_experts", *records)])
    assert sheet.frame["hk"].tolist() == [8, 8, 16, 16]
    (figure,) = FIGURES["active_experts"]([file("active_experts", *records)]).values()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["PEER hk = 8", "PEER hk = 16"]
    assert figure.axes[0].get_xlabel() == "heads h"


def test_failures_are_named_and_the_rest_is_printed() -> None:
    lost = Record(case=record(1, 0.0).case, status="diverged", reason="loss is nan")
    (sheet,) = TABLES["scores"]([file("scores", record(0, 3.0), lost)])
    assert "peer, seed 1: diverged, loss is nan" in sheet.notes
    with pytest.raises(UserError, match="no finished run to print; .*loss is nan"):
        arms([file("scores", lost)], Comparison({"method": "layer"}, "method"))


def test_runs_on_two_texts_are_not_one_table() -> None:
    one, other = (record(seed, 1.0, experts=64, query_norm=None) for seed in (0, 1))
    other.case["text"] = other.case["text"] | {"sha256": "d"}
    with pytest.raises(UserError, match="different texts"):
        TABLES["query_norm"]([file("query_norm", one, other)])
