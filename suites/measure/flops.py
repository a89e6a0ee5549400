"""FLOPs counted three ways: the closed form beside the parameters, fvcore, and torch's FlopCounterMode.

Unit: FLOPs of one call, a multiply-add counted as 2; fvcore counts it as 1, converted in one place here.
Leaves out what `suites.measure.operators.FREE` lists. Every module is counted on the meta device.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import torch
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import get_shape
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from peer import ProductKeyRouter
from suites.errors import UserError
from suites.measure import census, operators
from suites.measure.einsum import einsum_flops
from suites.measure.meta import MetaShapes

FLOPS_PER_FVCORE_COUNT = 2
CLOSED_FORMS = (
    "flops",
    "backward_flops",
    "parameter_parts",
    "active_parameter_parts",
    "bytes_moved",
    "activation_bytes",
)

COUNTERS = ("fvcore forward", "torch forward", "torch backward")


class Difference(NamedTuple):
    """Why a counter sees `flops` more in a part than the closed form has."""

    counter: str
    part: str
    flops: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Count:
    """FLOPs of one call: the closed forms by part, each counter's total, and the differences on the list."""

    forward: dict[str, int]
    backward: dict[str, int]
    counted: dict[str, int]
    listed: list[Difference]

    def unexplained(self) -> dict[str, int]:
        """Counter minus closed form minus listed differences, by counter."""
        gaps = {}
        for counter, flops in self.counted.items():
            closed = self.backward if counter.endswith("backward") else self.forward
            listed = sum(d.flops for d in self.listed if d.counter == counter)
            gaps[counter] = flops - sum(closed.values()) - listed
        return gaps


def count(module: Any, x: Tensor) -> Count:
    """Counts `module` on the meta input `x`: (T, D) for a layer, token ids (B, L) for a decoder.

    Raises UserError for a module that cannot be counted, an operator without a formula, a submodule that
    was never called, and a difference between counts that is not on the list.
    """
    check_countable(module)
    forward, backward = dispatched(module, x)
    result = Count(
        forward=module.flops(x.shape[0]),
        backward=module.backward_flops(x.shape[0]),
        counted=dict(zip(COUNTERS, (traced(module, x), forward, backward), strict=True)),
        listed=list(differences(module, x)),
    )
    if wrong := {name: gap for name, gap in result.unexplained().items() if gap}:
        gaps = ", ".join(f"{name} {gap:+,}" for name, gap in wrong.items())
        raise UserError(f"{name_of(module)}: counts differ from the closed form: {gaps} FLOPs")
    return result


def differences(module: Any, x: Tensor) -> Iterator[Difference]:
    """The list: what a counter is known to see more or less of, and why."""
    lookup = "executed as a lookup, for which appendix F of Chinchilla counts a product"
    scores = "elementwise when executed, for which appendix F of Chinchilla counts 3 per score"
    for part, reason in (("embedding", lookup), ("softmax", scores)):
        for counter in COUNTERS:
            closed = module.backward_flops if counter.endswith("backward") else module.flops
            if flops := closed(x.shape[0]).get(part):
                yield Difference(counter, part, -flops, reason)
    for router in module.modules():
        if isinstance(router, ProductKeyRouter) and router.impl != "reference":
            dense = router.flops(tokens_of(x))["sub_keys"]
            share = router.topk / router.sub_keys.shape[-2]
            yield Difference(
                "torch backward",
                "sub_keys",
                round(2 * dense * share) - 2 * dense,
                "the operator's gradient visits the K selected sub-keys of a half and not all √N",
            )


def tokens_of(x: Tensor) -> int:
    return x.shape[0] if x.is_floating_point() else x.numel()


def check_countable(module: nn.Module) -> None:
    """Raises UserError for a module without closed forms, with hooks, or compiled."""
    if missing := [form for form in CLOSED_FORMS if not hasattr(module, form)]:
        raise UserError(
            f"{name_of(module)} has no closed form {', '.join(missing)}; "
            "suites.layers.FeedForward says what a layer offers"
        )
    for path, child in module.named_modules():
        where = f"{name_of(module)}.{path}" if path else name_of(module)
        if (
            isinstance(child, torch._dynamo.OptimizedModule)
            or child._compiled_call_impl is not None
            or getattr(child, "impl", None) == "compiled"
        ):
            raise UserError(f"{where} is compiled, which hides operators; count it uncompiled")
        if any(getattr(child, hooks) for hooks in vars(child) if hooks.endswith("_hooks")):
            raise UserError(f"{where} has hooks, whose work would be counted; remove them")


def dispatched(module: nn.Module, x: Tensor) -> tuple[int, int]:
    """Forward and backward FLOPs by FlopCounterMode, every executed operator accounted for."""
    known = {census.packet(name): formula for name, formula in operators.FORMULAS.items()}
    formulas = {packet: formula for packet, formula in known.items() if packet is not None}
    tokens = tokens_of(x)
    x = x.detach().requires_grad_(x.is_floating_point())
    with MetaShapes():
        forward = FlopCounterMode(display=False, custom_mapping=formulas)
        with census.Census(forward.flop_registry, products_from=tokens) as seen, forward:
            y = module(x)
        seen.check(name_of(module))
        backward = FlopCounterMode(display=False, custom_mapping=formulas)
        with census.Census(backward.flop_registry) as seen, backward:
            y.sum().backward()
        seen.check(f"the backward of {name_of(module)}")
    return forward.get_total_flops(), backward.get_total_flops()


def traced(module: nn.Module, x: Tensor) -> int:
    """Forward FLOPs by fvcore; every operator of the trace has a handle and every module is called."""
    analysis = FlopCountAnalysis(module, (x,))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.set_op_handle(**{f"aten::{name}": nothing for name in operators.free_names()})
    analysis.set_op_handle(**{name: handle(name) for name in operators.FORMULAS})
    analysis.set_op_handle(**{"aten::einsum": einsum, "aten::matmul": matmul})
    with MetaShapes(), torch.no_grad():
        total = analysis.total()
    if unsupported := analysis.unsupported_ops():
        listed = ", ".join(f"{name} ({calls}×)" for name, calls in sorted(unsupported.items()))
        raise UserError(f"fvcore has no handle for {listed} in {name_of(module)}: {census.ADVICE}")
    modules = dict(module.named_modules())
    uncalled = {
        path for path in analysis.uncalled_modules() if not isinstance(modules[path], nn.Identity)
    }
    if uncalled:
        raise UserError(
            f"modules of {name_of(module)} were never called: {', '.join(sorted(uncalled))}"
        )
    return int(FLOPS_PER_FVCORE_COUNT * total)


def nothing(inputs: list, outputs: list) -> Counter:
    return Counter()


def handle(name: str):
    def counts(inputs: list, outputs: list) -> Counter:
        flops = operators.FORMULAS[name](*map(in_trace, inputs))
        return Counter({name: flops / FLOPS_PER_FVCORE_COUNT})

    return counts


def in_trace(value):
    """The shape of a tensor, the value of a constant, None for what is neither."""
    if value.type().kind() == "TensorType":
        return get_shape(value)
    return value.toIValue() if value.node().kind() == "prim::Constant" else None


def einsum(inputs: list, outputs: list) -> Counter:
    shapes = [get_shape(operand) for operand in inputs[1].node().inputs()]
    flops = einsum_flops(inputs[0].toIValue(), shapes, in_trace(inputs[2]))
    return Counter({"einsum": flops / FLOPS_PER_FVCORE_COUNT})


def matmul(inputs: list, outputs: list) -> Counter:
    """Products of a matmul: fvcore's own handle knows no vectors."""
    left, right = (get_shape(operand) for operand in inputs)
    columns = 1 if len(right) == 1 else right[-1]
    rows = left[-2:-1] if len(right) > 1 else left[:-1]
    batch = torch.broadcast_shapes(left[:-2], right[:-2]) if len(right) > 1 else ()
    return Counter({"matmul": prod(batch) * prod(rows) * left[-1] * columns})


def name_of(module: nn.Module) -> str:
    return type(module).__name__
