"""Predicted times: ordered, bound by the slowest of what a step needs, and never shown as measured."""

import pytest
import torch

from peer import PEER, explain, predicted
from peer.predicted import Experts, Retrieval, Work

pytest.importorskip("triton")


def test_a_step_is_bound_by_the_slowest():
    issue = predicted.predicted_us([Work(1e9, launches=0)])
    assert issue["least"] < issue["likely"] < issue["most"]
    assert issue["likely"] == pytest.approx(1e9 / (132 * 1.9e9 * 2.0) * 1e6)
    assert predicted.predicted_us([Work(dram_bytes=4.3e12, launches=2)])["least"] == pytest.approx(
        1e6 + 6
    )
    both = predicted.predicted_us([Work(dram_bytes=4.3e12, l2_bytes=5.5e12, launches=0)])
    assert both["least"] == pytest.approx(1.15e6)
    products = predicted.predicted_us([Work(flops=790e12, launches=0)])
    assert products["most"] == pytest.approx(1e6)
    assert predicted.floor_us(4.3e12) == predicted.floor_us(0, 790e12) == pytest.approx(1e6)


def test_steps_come_one_after_another():
    one, two = Work(1e9), Work(dram_bytes=1e9)
    together, alone = (
        predicted.predicted_us([one, two]),
        [predicted.predicted_us([w]) for w in (one, two)],
    )
    assert together["likely"] == pytest.approx(sum(times["likely"] for times in alone))


def test_rows_of_a_small_table_come_from_cache():
    call = Experts(tokens=64, pairs=8192, dim=256, experts=4096, distinct=3500, element_bytes=2)
    dram, l2 = call.table_rows()
    assert dram == 3500 * 512
    assert l2 == 8192 * 512
    large = call._replace(experts=1024**2, distinct=8000)
    assert 0.9 * l2 < large.table_rows()[0] < l2
    assert call.token_rows() == (64 * 512, l2)


def test_every_width_has_counts_for_all_operations():
    for width in (64, 200, 256, 1024, 4096):
        call = Experts(8, 1024, width, 1024**2, 1000.0, 2)
        predicted.forward(call, predicted.counted("forward", width))
        for sparse in (False, True):
            predicted.backward(call, predicted.counted("backward", width), sparse)
    queries = Retrieval(64, 1024, 128, 16, 2)
    predicted.retrieve(queries, predicted.counted("retrieve", 128))
    predicted.retrieve_backward(queries, predicted.counted("retrieve_backward", 128))
    assert predicted.counted("forward", 8192) == {}


def layer(**options) -> PEER:
    with torch.device("meta"):
        return PEER(256, impl="triton", **options).to(torch.bfloat16)


def test_explain_labels_what_is_predicted():
    found = explain(layer(), 8192)
    assert found.tiles.startswith("counted, no GPU like this one was measured")
    least, likely, most = found.predicted_us["forward"]
    assert found.forward_floor_us < least < likely < most
    lines = [line for line in str(found).splitlines() if "predicted" in line]
    assert [line.partition(",")[0] for line in lines] == ["forward", "backward"]
    assert all("predicted on an H200, not measured" in line for line in lines)
    sparse = explain(layer(table_grad="sparse"), 8192)
    assert sparse.predicted_us["backward"][1] < found.predicted_us["backward"][1]


@pytest.mark.parametrize("options", [{"glu": True}, {"topk": 8}, {"dim_key": 64}])
def test_no_prediction_for_what_was_not_counted(options):
    found = explain(layer(**options), 64)
    assert found.predicted_us == {}
    assert "predicted" not in str(found)


def test_no_prediction_for_float32():
    with torch.device("meta"):
        assert explain(PEER(256, impl="triton"), 64).predicted_us == {}
