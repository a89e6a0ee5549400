"""FLOPs of an einsum, read from its equation: fvcore's own handle reads text rounded to four digits.

An index is summed in the product of the two operands that hold it: one that only one operand holds is
summed before, and a product in which no index is summed is elementwise, both free.
"""

from collections.abc import Sequence
from math import prod

Term = dict[str, int]  # extent by index; the axes of an ellipsis are ".1", ".2", … from the right


def einsum_flops(
    equation: str, shapes: Sequence[Sequence[int]], path: Sequence[int] | None = None
) -> int:
    """A multiply-add counted as 2, operands contracted two at a time along `path` or from the left."""
    inputs, arrow, result = equation.replace(" ", "").partition("->")
    terms = [named(*pair) for pair in zip(inputs.split(","), shapes, strict=True)]
    kept = written(result, terms) if arrow else implied(inputs, terms)
    pairs = list(zip(path[::2], path[1::2], strict=True)) if path else [(0, 1)] * (len(terms) - 1)
    flops = 0
    for pair in pairs:
        left, right = (terms[place] for place in pair)
        others = [term for place, term in enumerate(terms) if place not in pair]
        cost, product = contracted(left, right, later=kept.union(*others))
        flops += cost
        terms = [*others, product] if path else [product, *others]
    return flops


def named(term: str, shape: Sequence[int]) -> Term:
    """An axis of extent 1 is no axis: what meets it is not multiplied with anything along it."""
    before, dots, after = term.partition("...")
    width = len(shape) - len(before) - len(after)
    ellipsis = [f".{place}" for place in range(width, 0, -1)] if dots else []
    names = [*before, *ellipsis, *after]
    return {name: extent for name, extent in zip(names, shape, strict=True) if extent != 1}


def written(result: str, terms: Sequence[Term]) -> set[str]:
    ellipsis = dots_of(terms) if "..." in result else set()
    return ellipsis | set(result.replace("...", ""))


def implied(inputs: str, terms: Sequence[Term]) -> set[str]:
    """Without an arrow: the ellipsis, and what is written once."""
    letters = inputs.replace(".", "").replace(",", "")
    return dots_of(terms) | {name for name in letters if letters.count(name) == 1}


def dots_of(terms: Sequence[Term]) -> set[str]:
    return {name for term in terms for name in term if name.startswith(".")}


def contracted(left: Term, right: Term, later: set[str]) -> tuple[int, Term]:
    """FLOPs of the product of two operands, and what is left for `later` operands and the result."""
    both = left.keys() & right.keys()
    met = {name: size for name, size in (left | right).items() if name in both or name in later}
    product = {name: size for name, size in met.items() if name in later}
    return (2 * prod(met.values()) if len(product) < len(met) else 0), product
