"""A census of every operator executed: each is counted, free for a stated reason, or an error."""

from collections import Counter
from collections.abc import Container
from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from suites.errors import UserError
from suites.measure import operators

ADVICE = "give it a formula or a reason to be free in suites/measure/operators.py"


class Product(NamedTuple):
    """An elementwise product of two tensors, as what was made of it remembers it."""

    entries: int
    of_rows: bool  # rows scaled by one number each
    factors: frozenset[int]  # their storages


class Census(TorchDispatchMode):
    """Notes operators that are neither in `counted` nor free.

    With `products_from`, a sum over an elementwise product of so many entries or more is noted too: a
    dot product written as (a * b).sum(-1) is two free operators, and no counter sees it. A product is
    followed through views, copies, casts and elementwise functions, by the storage that holds it.
    """

    def __init__(self, counted: Container, products_from: float = inf) -> None:
        super().__init__()
        self.counted, self.products_from = counted, products_from
        self.free = operators.free_names()
        self.held: dict[int, dict[int, Product]] = {}  # storage → its products by their number
        self.storages: list[torch.UntypedStorage] = []
        self.unknown: Counter[str] = Counter()
        self.norms = Norms()

    def __enter__(self):
        self.norms.__enter__()
        return super().__enter__()

    def __exit__(self, *raised):
        super().__exit__(*raised)
        self.norms.__exit__(*raised)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        operator = function._schema.name
        namespace, name = operator.split("::")
        counted = function._overloadpacket in self.counted
        free = namespace == "aten" and name in self.free
        if operator in operators.REFUSED:
            self.unknown[f"{operator}, {operators.REFUSED[operator]}"] += 1
        elif not counted and (not free or "reduce" in function._schema.overload_name):
            self.unknown[operator] += 1
        if not counted and not self.norms.inside:
            self.follow(name, args, tensors(result))
        return result

    def follow(self, name: str, args: tuple, results: list[Tensor]) -> None:
        """Notes a sum over a product, and what the results hold."""
        operands = [self.held.get(storage_of(t), {}) for t in tensors(args)]
        holds = {number: product for held in operands for number, product in held.items()}
        entries = sum(t.numel() for t in results)
        if (
            (name in operators.SUMS and holds)
            or (name in operators.PUT_BACK and not all(p.of_rows for p in holds.values()))
            or (name in operators.ADDITIONS and adds_up(operands, entries))
        ):
            advice = "a dot product; write it as einsum, a norm as torch's own"
            self.unknown[f"(a * b).{name}, {advice}"] += 1
        if name in operators.SUMS | operators.PUT_BACK | operators.NORMS:
            return
        if name in operators.PRODUCTS and entries >= self.products_from:
            factors = [t for t in tensors(args) if t.dim()]
            if len(factors) > 1 or (name == "pow" and factors):
                of_rows = any(t.shape[-1] == 1 or t.stride(-1) == 0 for t in factors)
                product = Product(entries, of_rows, frozenset(map(self.keep, factors)))
                holds[len(self.storages)] = product
        for result in results if holds else ():
            self.held.setdefault(self.keep(result), {}).update(holds)

    def keep(self, tensor: Tensor) -> int:
        """The name of a tensor's storage, kept so that no other takes it."""
        self.storages.append(tensor.untyped_storage())
        return storage_of(tensor)

    def check(self, what: str) -> None:
        """Raises UserError for what was executed and not accounted for."""
        if self.unknown:
            listed = ", ".join(f"{name} ({calls}×)" for name, calls in sorted(self.unknown.items()))
            raise UserError(f"{what} executes operators that nothing counts: {listed}: {ADVICE}")


class Norms(TorchFunctionMode):
    """Whether torch's own norm is being computed, whose squares and means are a norm's."""

    inside = False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        before = self.inside
        self.inside = before or getattr(function, "__name__", "") in operators.NORMS
        try:
            return function(*args, **(kwargs or {}))
        finally:
            self.inside = before


def adds_up(operands: list[dict[int, Product]], entries: int) -> bool:
    """Whether an addition joins parts of one product, or a third product of the same two tensors.

    Two are elementwise: rotary positions and complex numbers.
    """
    left, *others = operands
    right = others[0] if others else {}
    if any(left[number].entries > entries for number in left.keys() & right.keys()):
        return True
    times = Counter(product.factors for product in (left | right).values())
    joined = {p.factors for p in left.values()} & {p.factors for p in right.values()}
    return any(times[factors] > 2 for factors in joined)


def tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def storage_of(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def packet(name: str):
    """The overload packet of the operator "namespace::name"; None where its library is not imported."""
    namespace, operator = name.split("::")
    return getattr(getattr(torch.ops, namespace), operator, None)
