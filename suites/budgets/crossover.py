"""The widths below which PEER costs more than the dense layer it replaces."""

from collections.abc import Callable
from functools import partial
from typing import Any

from suites.budgets.match import built
from suites.records.record import canonical

WIDEST = 2**17
ROUTER = ("query", "sub_keys", "merge")

Cost = Callable[[Any], int]


def crossovers(experts: int, tokens: int) -> dict[str, float | int | str | None]:
    """The smallest width at which PEER, else at the paper's numbers, costs no more than dense (d, 4·d)."""
    costs: dict[str, tuple[Cost, Cost]] = {
        "router_forward_flops": (
            lambda peer: sum(peer.flops(tokens)[part] for part in ROUTER),
            lambda dense: sum(dense.flops(tokens).values()),
        ),
        "forward_flops": total(lambda layer: layer.flops(tokens)),
        "active_parameters": total(lambda layer: layer.active_parameter_parts()),
        "bytes_moved": total(lambda layer: layer.bytes_moved(tokens)),
    }
    options = canonical({"experts": experts})

    def holds(name: str, dim: int) -> bool:
        ours, theirs = costs[name]
        return ours(built("peer", dim, options)) <= theirs(built("dense", dim, canonical({})))

    return {f"{name}_crossover_width": smallest_width(partial(holds, name)) for name in costs}


def total(parts: Callable[[Any], dict[str, int]]) -> tuple[Cost, Cost]:
    def cost(layer: Any) -> int:
        return sum(parts(layer).values())

    return cost, cost


def smallest_width(holds: Callable[[int], bool]) -> int | None:
    """By bisection: dense costs grow with the square of the width, PEER's with the width."""
    if not holds(WIDEST):
        return None
    low, high = 0, WIDEST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
