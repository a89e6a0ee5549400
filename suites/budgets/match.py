"""The solver: for a layer, the allowed configuration whose cost is nearest to a budget.

What may vary is declared beside the registry, in `suites.layers.VARIES`; costs grow with all of it.
"""

import json
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations
from typing import Any

from pydantic import JsonValue

from suites.errors import UserError
from suites.layers import VARIES, build, resolve_options
from suites.measure.meta import on_meta
from suites.records.budget import Budget, Kind, check_kind
from suites.records.record import Model, canonical

MOST_VARIED = 2

# What a call with `tokens` costs; FLOPs and bytes are those of the call, forward unless they say training.
COSTS: dict[Kind, Callable[[Any, int], int]] = {
    "forward_flops": lambda layer, tokens: sum(layer.flops(tokens).values()),
    "training_flops": lambda layer, tokens: (
        sum(layer.flops(tokens).values()) + sum(layer.backward_flops(tokens).values())
    ),
    "active_parameters": lambda layer, tokens: sum(layer.active_parameter_parts().values()),
    "parameters": lambda layer, tokens: sum(layer.parameter_parts().values()),
    "bytes_moved": lambda layer, tokens: sum(layer.bytes_moved(tokens).values()),
}


class Match(Model):
    """The nearest configuration, and why it is not near enough where it is not."""

    options: dict[str, JsonValue]
    varied: dict[str, tuple[JsonValue, JsonValue]]  # option → its default and its value
    cost: int
    mismatch: float
    reason: str | None


def dense_budget(kind: str, dim: int, tokens: int, tolerance: float) -> Budget:
    """What the dense layer (dim, 4·dim) costs; raises UserError for an unknown kind."""
    known = check_kind(kind)
    dense = on_meta(build, "dense", dim, {})
    cost = COSTS[known](dense, tokens)
    return Budget(kind=known, reference=cost, row=f"dense ({dim}, {4 * dim})", tolerance=tolerance)


def match(layer: str, dim: int, budget: Budget, tokens: int) -> Match:
    """Varies as few numbers as the tolerance asks for, and of the nearest configurations takes the first.

    Raises UserError for a layer that declares nothing to vary.
    """
    if layer not in VARIES:
        raise UserError(
            f"{layer} declares no number that may vary; add it to VARIES in suites/layers.py"
        )
    freedom, defaults = VARIES[layer], resolve_options(layer, {})

    def cost(options: dict[str, int]) -> int:
        return COSTS[budget.kind](built(layer, dim, canonical(options)), tokens)

    def gap(options: dict[str, int]) -> float:
        return abs(budget.mismatch(cost(options)))

    def configurations(fixed: dict[str, int], names: tuple[str, ...]) -> Iterator[dict[str, int]]:
        """With all values of all `names` but the last, for which only the two around the budget."""
        name, *rest = names
        options = [fixed | {name: value} for value in freedom.values[name](dim)]
        if rest:
            for option in options:
                yield from configurations(option, tuple(rest))
        elif options := [o for o in options if freedom.allowed(defaults | o)]:
            for i in around(len(options), lambda i: cost(options[i]), budget.reference):
                yield options[i]

    best: dict[str, int] = {}
    for size in range(1, MOST_VARIED + 1):
        if gap(best) <= budget.tolerance:
            break
        for names in combinations(freedom.values, size):
            best = min([best, *configurations({}, names)], key=gap)
    default = built(layer, dim, canonical({}))  # an option that is None follows from the width
    mismatch = budget.mismatch(cost(best))
    return Match(
        options=defaults | best,
        varied={
            name: (getattr(default, name) if defaults[name] is None else defaults[name], value)
            for name, value in best.items()
        },
        cost=cost(best),
        mismatch=mismatch,
        reason=None if abs(mismatch) <= budget.tolerance else impossible(layer, budget, mismatch),
    )


@cache
def built(layer: str, dim: int, options: str) -> Any:
    return on_meta(build, layer, dim, json.loads(options))


def around(size: int, cost: Callable[[int], int], target: float) -> list[int]:
    """Of rising costs, the places of the last at most `target` and of the first above it.

    Interpolates and halves in turn, since costs are nearly straight in most numbers.
    """
    low, high = 0, size - 1
    if target <= cost(low):
        return [low]
    if target >= cost(high):
        return [high]
    straight = True
    while high - low > 1:
        share = (target - cost(low)) / (cost(high) - cost(low)) if straight else 0.5
        middle = min(max(low + round(share * (high - low)), low + 1), high - 1)
        low, high = (middle, high) if cost(middle) <= target else (low, middle)
        straight = not straight
    return [low, high]


def impossible(layer: str, budget: Budget, mismatch: float) -> str:
    numbers, side = ", ".join(VARIES[layer].values), "more" if mismatch > 0 else "less"
    return (
        f"no {layer} within {budget.describe()}: varying at most {MOST_VARIED} of {numbers} "
        f"within the paper's range, the nearest costs {abs(mismatch):.1%} {side}"
    )
