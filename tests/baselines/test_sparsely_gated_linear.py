"""sgatlin: its definition head by head, its four switches, and PEER at their other end."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from baselines import SparselyGatedLinear
from peer import PEER
from tests.baselines.definition import check_definition

SMALL = {"experts": 5**2, "heads": 3, "topk": 2, "dim_key": 6, "impl": "reference"}
SWITCHES = list(
    itertools.product(("none", "gelu"), ("raw", "softmax"), (True, False), (True, False))
)


def layer(activation="none", scores="raw", shared_query=True, shared_pool=False, **options):
    switches = {"activation": activation, "scores": scores}
    switches |= {"shared_query": shared_query, "shared_pool": shared_pool}
    return SparselyGatedLinear(8, **SMALL | switches | options).double()


def defined(own: SparselyGatedLinear, x):
    """Every product key of every head, scored one by one."""
    router, out = own.router, []
    for token in x:
        y = torch.zeros(8, dtype=torch.float64)
        query = router.query(token).view(router.queries, 2, 3)
        for head in range(3):
            q = query[head if router.queries > 1 else 0]
            keys = router.sub_keys[:, head]
            matches = torch.stack(
                [q[0] @ keys[0, i] + q[1] @ keys[1, j] for i in range(5) for j in range(5)]
            )
            best, ids = matches.topk(2)
            gates = best.softmax(-1) if router.scores == "softmax" else best
            for gate, i in zip(gates, (ids + 25 * head * router.own_pools).tolist(), strict=True):
                hidden = own.down[i] @ token
                y = y + gate * (F.gelu(hidden) if own.activation == "gelu" else hidden) * own.up[i]
        out.append(y)
    return torch.stack(out)


@pytest.mark.parametrize("switches", SWITCHES)
def test_it_is_its_definition_with_every_gradient(switches: tuple) -> None:
    own = layer(*switches)
    check_definition(own, defined, tokens=7, dim=8)


@pytest.mark.parametrize("impl", ["aten", "triton"])
@pytest.mark.parametrize("switches", [SWITCHES[0], SWITCHES[2], SWITCHES[8]])
def test_every_implementation_is_the_reference(switches: tuple, impl: str) -> None:
    if impl == "triton":
        pytest.importorskip("triton")
    device = "cuda" if impl == "triton" and torch.cuda.is_available() else "cpu"
    own, other = (layer(*switches, impl=name).float().to(device) for name in ("reference", impl))
    other.load_state_dict(own.state_dict())
    x = torch.randn(7, 8, device=device)
    found = []
    for one in (own, other):
        y = one(x)
        y.square().sum().backward()
        found.append([y, *(p.grad for p in one.parameters())])
    for mine, true in zip(*found, strict=True):
        torch.testing.assert_close(true, mine, atol=1e-4, rtol=1e-4)


def test_with_peers_switches_it_is_peer() -> None:
    own = layer("gelu", "softmax", shared_query=False, shared_pool=True, query_norm="batch")
    peer = PEER(8, **SMALL, shared_keys=False).double()
    peer.load_state_dict(own.state_dict())
    x = torch.randn(11, 8, dtype=torch.float64)
    torch.testing.assert_close(own(x), peer(x))
    assert own.flops(4) == peer.flops(4)
    assert own.bytes_moved(4) == peer.bytes_moved(4)
    assert own.parameter_parts() == peer.parameter_parts()
    assert own.activation_bytes(4) == peer.activation_bytes(4)


def test_heads_with_pools_of_their_own_never_meet() -> None:
    ids = layer().selected(torch.randn(40, 8, dtype=torch.float64))
    for head in range(3):
        assert ids[:, head].min() >= 25 * head
        assert ids[:, head].max() < 25 * (head + 1)


def test_the_published_closed_forms() -> None:
    """FLOPs 2·d·128 + 4·C·S·64 + 4·C·k·d and parameters 128·d + 2·C·S·64 + 2·C·N·d, and a query bias."""
    with torch.device("meta"):
        own = SparselyGatedLinear(768, experts=88**2)
    assert sum(own.flops(1).values()) == 2 * 768 * 128 + 4 * 16 * 88 * 64 + 4 * 16 * 8 * 768
    parameters = 128 * 768 + 128 + 2 * 16 * 88 * 64 + 2 * 16 * 88**2 * 768
    assert sum(own.parameter_parts().values()) == parameters


def test_expected_distinct_experts_of_uniform_routing() -> None:
    router = layer().router
    draws = torch.rand(2000, 5, 3, 25).topk(2).indices + 25 * torch.arange(3).view(3, 1)
    mean = sum(len(row.unique()) for row in draws) / len(draws)
    assert router.distinct(5) == pytest.approx(mean, abs=0.6)


def test_one_query_needs_sub_keys_of_each_head() -> None:
    from peer.router import ProductKeyRouter

    with pytest.raises(ValueError, match="shared_query needs shared_keys=False"):
        ProductKeyRouter(
            8,
            experts=25,
            heads=2,
            topk=2,
            dim_key=6,
            query_norm=None,
            scores="raw",
            shared_keys=True,
            impl="auto",
            shared_query=True,
        )
