"""Imposed routing is what it is called."""

import numpy
import pytest
import torch

from peer import PEER
from suites.errors import UserError
from suites.speed.experts_speed import PROFILES, recorded
from suites.speed.subjects import routing

CELL = PROFILES["tiny"][2]


def ids(kind: str) -> torch.Tensor:
    return routing.expert_ids(
        CELL.model_copy(update={"routing": kind}), torch.Generator().manual_seed(0)
    )


def test_uniform_touches_what_uniform_draws_touch():
    drawn = ids("uniform")
    assert drawn.dtype == torch.int32
    share = drawn.unique().numel() / CELL.experts
    expected = 1 - (1 - 1 / CELL.experts) ** (CELL.tokens * CELL.active_experts)
    assert share == pytest.approx(expected, rel=0.02)


def test_zipf_counts_fall_as_one_over_rank():
    counts = torch.bincount(ids("zipf").flatten().long()).sort(descending=True).values
    harmonic = (1 / numpy.arange(1, CELL.experts + 1)).sum()
    draws = CELL.tokens * CELL.active_experts
    for rank in (1, 2, 10):
        assert counts[rank - 1].item() == pytest.approx(draws / rank / harmonic, rel=0.1)


def test_same_touches_hk_experts():
    assert ids("same").unique().numel() == CELL.active_experts


def test_layer_tokens_repeat_as_the_routing_says():
    def distinct(kind: str) -> int:
        cell = CELL.model_copy(update={"routing": kind})
        tokens = routing.layer_tokens(cell, torch.Generator().manual_seed(0))
        assert tokens.shape == (cell.tokens, cell.dim)
        return tokens.unique(dim=0).shape[0]

    assert distinct("uniform") == CELL.tokens
    assert distinct("same") == 1
    assert 1 < distinct("zipf") < CELL.tokens * 0.7


def test_ids_recorded_from_a_model_come_back(tmp_path):
    layer = PEER(16, experts=64, heads=2, topk=4).eval()
    batches = [torch.randn(5, 16), torch.randn(3, 16)]
    routing.record(layer, batches, tmp_path / "ids.npy")
    cells = recorded(list(PROFILES["tiny"]), tmp_path / "ids.npy")
    assert {(c.active_experts, c.routing) for c in cells} == {(8, "recorded")}
    replayed = routing.expert_ids(cells[0], torch.Generator())
    with torch.no_grad():
        expected = layer.router(torch.cat(batches))[1].flatten(1)
    assert replayed.shape == (cells[0].tokens, 8)
    torch.testing.assert_close(replayed[:8], expected)


@pytest.mark.parametrize("content", [b"no array", None])
def test_unreadable_ids_are_one_sentence(tmp_path, content):
    path = tmp_path / "ids.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="cannot read recorded ids"):
        routing.load_recorded(path)
