"""Matches are the nearest, the contract refuses, Chinchilla's ratios and the crossovers come out."""

import pytest

from suites.budgets.chinchilla import TABLE, ratios
from suites.budgets.crossover import crossovers
from suites.budgets.match import COSTS, around, built, dense_budget, match
from suites.errors import UserError
from suites.layers import LAYERS, VARIES, resolve_options
from suites.records.budget import KINDS, Budget
from suites.records.record import canonical


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.model)
def test_chinchilla(row) -> None:
    found = ratios(row)
    assert round(found["blocks_ratio"], 2) == row.ratio
    assert round(found["text_ratio"], 2) > row.ratio


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "layer",
    [
        "dense_glu",
        "topk_moe",
        "pkm",
        "peer",
        "fine_grained_moe",
        "sparsely_gated_linear",
        "memory_plus",
        "ultramem_v2",
    ],
)
def test_a_match_keeps_its_budget(layer: str, kind: str) -> None:
    budget = dense_budget(kind, 256, 512, 0.1)
    found = match(layer, 256, budget, 512)
    cost = COSTS[kind](built(layer, 256, canonical(found.options)), 512)
    assert cost == found.cost
    assert found.reason is None
    assert abs(cost / budget.reference - 1) == pytest.approx(abs(found.mismatch))
    assert abs(found.mismatch) <= 0.1
    assert set(found.varied) <= set(VARIES[layer].values)
    changed = {k for k, v in found.options.items() if v != resolve_options(layer, {})[k]}
    assert changed <= set(found.varied)


def test_the_nearest_of_all() -> None:
    budget = dense_budget("forward_flops", 64, 128, 0.0)
    costs = [
        COSTS["forward_flops"](built("topk_moe", 64, canonical({"hidden": hidden})), 128)
        for hidden in range(1, 200)
    ]
    found = match("topk_moe", 64, budget, 128)
    assert found.cost == min(costs, key=lambda cost: abs(cost - budget.reference))


@pytest.mark.parametrize("target", [-1, 0, 3, 10, 17, 1e6, 1e9])
def test_around(target: float) -> None:
    costs = [i**3 for i in range(300)]
    found = around(len(costs), costs.__getitem__, target)
    assert min(costs, key=lambda c: abs(c - target)) in [costs[i] for i in found]


@pytest.mark.parametrize("layer", VARIES)
@pytest.mark.parametrize("kind", KINDS)
def test_costs_grow_with_what_may_vary(layer: str, kind: str) -> None:
    """The solver's bisection rests on this."""
    for name, values in VARIES[layer].values.items():
        options = [{name: v} for v in values(64)]
        options = [o for o in options if VARIES[layer].allowed(resolve_options(layer, o))]
        costs = [
            COSTS[kind](built(layer, 64, canonical(o)), 256)
            for o in options[:: max(1, len(options) // 6)]
        ]
        assert costs == sorted(costs), name


def test_every_layer_may_vary_something() -> None:
    assert set(VARIES) == set(LAYERS)


def test_impossible_budgets_say_why_and_give_the_nearest() -> None:
    found = match("expert_choice", 64, dense_budget("parameters", 64, 256, 0.02), 256)
    assert found.varied == {"hidden": (256, 1)}
    assert found.reason is not None
    assert "varying at most 2 of hidden within the paper's range, the nearest costs" in found.reason


def test_the_contract_refuses() -> None:
    budget = Budget(kind="forward_flops", reference=100, row="dense", tolerance=0.02)
    assert budget.check({"a": 101}) == {"a": pytest.approx(0.01)}
    with pytest.raises(UserError, match=r"2\.00% of dense, 100; outside: b \+3\.00%\. No table"):
        budget.check({"a": 101, "b": 103})
    with pytest.raises(UserError, match="unknown budget kind 'energy'; there are training_flops"):
        Budget(kind="energy", reference=1)
    with pytest.raises(UserError, match="unknown budget kind 'energy'"):
        dense_budget("energy", 64, 64, 0.02)
    with pytest.raises(UserError, match="positive reference"):
        Budget(kind="parameters", reference=0).mismatch(1)


def test_a_layer_that_declares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(VARIES, "pkm")
    with pytest.raises(UserError, match="pkm declares no number that may vary"):
        match("pkm", 64, dense_budget("parameters", 64, 64, 0.02), 64)


def test_crossover_of_the_papers_configuration() -> None:
    """16 d² = 2·8·128·(d + 1024) for the router, from the table of costs per token."""
    found = crossovers(1024**2, 2048)
    assert found["router_forward_flops_crossover_width"] == 432
    assert 432 < found["forward_flops_crossover_width"] < 512


def test_the_verb(suites) -> None:
    done = suites("match", "--dim", "256", "--budget", "forward_flops", "--layer", "peer")
    assert done.returncode == 0, done.stderr
    assert "experts 1048576 → 36864" in done.stdout
    done = suites("match", "--dim", "256", "--budget", "energy")
    assert done.returncode == 2
    assert "unknown budget kind 'energy'" in done.stderr
