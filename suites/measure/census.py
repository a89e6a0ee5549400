"""A census of every operator executed: each is counted, free for a stated reason, or an error."""

from collections import Counter
from collections.abc import Container

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from suites.errors import UserError
from suites.measure import operators

ADVICE = "give it a formula or a reason to be free in suites/measure/operators.py"


class Census(TorchDispatchMode):
    """Notes operators that are neither in `counted` nor free.

    With `products_from`, a sum straight after an elementwise product of so many entries or more is noted
    too: a dot product written as (a * b).sum(-1) is two free operators, and no counter sees it.
    """

    def __init__(self, counted: Container, products_from: int | None = None) -> None:
        super().__init__()
        self.counted, self.products_from = counted, products_from
        self.free = operators.free_names()
        self.products = WeakIdKeyDictionary()
        self.unknown: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        namespace, name = function._schema.name.split("::")
        if function._overloadpacket not in self.counted and (
            namespace != "aten" or name not in self.free
        ):
            self.unknown[f"{namespace}::{name}"] += 1
        if self.products_from is not None:
            if name == "sum" and args[0] in self.products:
                self.unknown["(a * b).sum, a dot product; write it as einsum"] += 1
            product = name == "mul" and isinstance(args[1], torch.Tensor)
            if product and result.numel() >= self.products_from:
                self.products[result] = True
        return result

    def check(self, what: str) -> None:
        """Raises UserError for what was executed and not accounted for."""
        if self.unknown:
            listed = ", ".join(f"{name} ({calls}×)" for name, calls in sorted(self.unknown.items()))
            raise UserError(f"{what} executes operators that nothing counts: {listed}: {ADVICE}")


def packet(name: str):
    """The overload packet of the operator "namespace::name"."""
    namespace, operator = name.split("::")
    return getattr(getattr(torch.ops, namespace), operator)
