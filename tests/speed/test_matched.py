"""The arithmetic that sizes baselines agrees with the layers' own closed forms."""

from collections import defaultdict

import pytest

from peer import PEER
from suites.layers import build
from suites.measure.meta import on_meta
from suites.registry import load
from suites.speed.cells.matched import SUCCESSORS, Point, baseline, touched
from suites.speed.harness.command import SPEED_SUITES

POINT = Point(dim=64, experts=32**2, heads=4, topk=8, tokens=96)


def test_peers_closed_forms():
    layer = PEER(64, experts=32**2, heads=4, topk=8)
    assert POINT.forward_flops() * POINT.tokens == sum(layer.flops(POINT.tokens).values())
    assert POINT.active_parameters() == layer.active_parameters()
    assert POINT.router_parameters() == sum(p.numel() for p in layer.router.parameters())


@pytest.mark.parametrize("layer", ["dense", "dense_glu", "expert_choice", "topk_moe", "pkm"])
def test_equal_flops(layer):
    built = build(layer, POINT.dim, baseline(layer, POINT, "forward_flops", moe_experts=4))
    flops = sum(built.flops(POINT.tokens).values())
    assert flops == pytest.approx(POINT.forward_flops() * POINT.tokens, rel=0.02)


@pytest.mark.parametrize(
    "point",
    [
        Point(dim=256, experts=128**2, heads=8, topk=16, tokens=256),
        Point(dim=1024, experts=1024**2, heads=8, topk=16, tokens=8192),
    ],
)
@pytest.mark.parametrize("layer", SUCCESSORS)
def test_equal_flops_of_what_came_after(layer: str, point: Point) -> None:
    built = on_meta(build, layer, point.dim, baseline(layer, point, "forward_flops", 16))
    assert sum(built.flops(1).values()) == pytest.approx(point.forward_flops(), rel=0.02)
    with pytest.raises(ValueError, match=f"{layer} is sized for forward_flops; got bytes_moved"):
        baseline(layer, point, "bytes_moved", 16)


@pytest.mark.parametrize("layer", ["dense", "dense_glu", "topk_moe", "pkm"])
def test_equal_active_parameters(layer):
    built = build(layer, POINT.dim, baseline(layer, POINT, "active_parameters", moe_experts=4))
    assert built.active_parameters() == pytest.approx(POINT.active_parameters(), rel=0.02)


def test_equal_bytes():
    dense = build("dense", POINT.dim, baseline("dense", POINT, "bytes_moved", moe_experts=4))
    assert dense.active_parameters() == pytest.approx(POINT.weights_moved(), rel=0.02)
    # 3,072 uniform draws out of 1,024
    assert touched(1024, 3072) == pytest.approx(1024 * (1 - 2.718281828**-3), rel=1e-3)


@pytest.mark.parametrize("profile", ["tiny", "small"])
def test_names_and_cells_are_unique(profile):
    cells = [cell for suite in SPEED_SUITES for cell in load(suite).PROFILES[profile]]
    assert len({cell.name for cell in cells}) == len(cells)
    assert len({cell.model_dump_json() for cell in cells}) == len(cells)


@pytest.mark.parametrize("profile", ["tiny", "small"])
def test_every_suite_carries_its_controls(profile):
    for suite in SPEED_SUITES:
        cells = load(suite).PROFILES[profile]
        controls = defaultdict(set)
        for cell in cells:
            if cell.is_control:
                controls[cell.layer].add(cell.dtype)
        dtypes = {cell.dtype for cell in cells}
        assert controls == {"copy": dtypes, "gemm": dtypes}
        assert sum(cell.repeat for cell in cells) == 1
