"""Memory+ against its equation, and one table behind several sites."""

import pytest
import torch
import torch.nn.functional as F

from baselines import MemoryPlus
from suites.language_model.case import Backbone
from suites.language_model.decoder import Decoder
from suites.measure.flops import count
from suites.measure.meta import on_meta
from tests.baselines.definition import check_definition

SMALL = {"memories": 5**2, "heads": 2, "topk": 3, "dim_value": 6, "dim_key": 4, "impl": "reference"}
BACKBONE = Backbone(blocks=4, dim=32, attention_heads=2, context=16)
OPTIONS = {"memories": 16**2, "topk": 4}


def defined(own: MemoryPlus, x):
    out = []
    for token in x:
        y = torch.zeros(6, dtype=torch.float64)
        query = own.router.query(token).view(2, 2, 2)
        for head in range(2):
            rows = own.router.sub_keys[0, head] @ query[head, 0]
            columns = own.router.sub_keys[1, head] @ query[head, 1]
            best, ids = (rows.unsqueeze(-1) + columns).flatten().topk(3)
            y = y + best.softmax(-1) @ own.values[ids]
        out.append(own.out.weight @ (y * F.silu(own.gate.weight @ token)))
    return torch.stack(out)


def test_it_is_its_definition_with_every_gradient() -> None:
    own = MemoryPlus(8, **SMALL).double()
    check_definition(own, defined, tokens=9, dim=8)


def test_the_published_closed_forms() -> None:
    """FLOPs 2dHQ + 2HSQ + 2HK·dv + 4d·dv; parameters N·dv + dHQ + HSQ + 2d·dv, and the query's bias."""
    with torch.device("meta"):
        own = MemoryPlus(1024)
    d, H, Q, S, K = 1024, 4, 512, 1024, 32
    flops = 2 * d * H * Q + 2 * H * S * Q + 2 * H * K * d + 4 * d * d
    assert sum(own.flops(1).values()) == flops
    assert (
        sum(own.parameter_parts().values()) == S * S * d + d * H * Q + H * Q + H * S * Q + 2 * d * d
    )


def test_sites_share_one_table_that_counts_and_trains_once() -> None:
    decoder = Decoder(BACKBONE, 64, "memory_plus", OPTIONS, (0, 2, 3))
    first, second, third = (decoder.layers()[site] for site in (0, 2, 3))
    assert first.values is second.values is third.values
    assert first.router.sub_keys is not second.router.sub_keys
    assert len(decoder.tables()) == 1
    assert sum(decoder.parameter_parts().values()) == decoder.parameters_total()
    assert decoder.parameter_parts()["ffw_values"] == 16**2 * 32
    assert decoder.active_parameter_parts()["ffw_values"] == 3 * 4 * 4 * 32


def test_three_sites_are_counted_three_ways() -> None:
    decoder = on_meta(Decoder, BACKBONE, 64, "memory_plus", OPTIONS, (0, 2, 3))
    counted = count(decoder, torch.zeros(2, 16, dtype=torch.long, device="meta"))
    assert set(counted.unexplained().values()) == {0}


def test_the_gradient_of_a_shared_table_is_the_sum_over_its_sites() -> None:
    first = MemoryPlus(8, **SMALL).double()
    second = MemoryPlus(8, first.values, **SMALL).double()
    x = torch.randn(9, 8, dtype=torch.float64)
    grads = [torch.autograd.grad(one(x).sum(), first.values)[0] for one in (first, second)]
    (together,) = torch.autograd.grad((first(x) + second(x)).sum(), first.values)
    torch.testing.assert_close(together, sum(grads))
    kept = first.values.detach().clone()
    second.reset_parameters()
    assert torch.equal(first.values, kept)
    assert second.tables() == []
    assert second.parameter_parts()["values"] == 0


def test_a_table_of_another_shape_is_refused() -> None:
    values = torch.nn.Parameter(torch.zeros(25, 7))
    with pytest.raises(ValueError, match=r"values must be .* = \(25, 6\); got \(25, 7\)"):
        MemoryPlus(8, values, **SMALL)
