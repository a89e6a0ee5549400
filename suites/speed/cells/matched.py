"""Baselines sized so that one quantity equals PEER's, solved from closed forms. Imports no torch.

Tests compare these forms with the ones that the layers carry.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import JsonValue

from suites.records.budget import Kind

DIM_KEY = 128  # PKM's; the PEER paper does not state it
Options = dict[str, JsonValue]


@dataclass(frozen=True)
class Point:
    """The PEER layer of a comparison, with the paper's defaults, and the call it meets."""

    dim: int
    experts: int
    heads: int
    topk: int
    tokens: int

    @property
    def active_experts(self) -> int:
        return self.heads * self.topk

    @property
    def sub_keys(self) -> int:
        return round(self.experts**0.5)

    def forward_flops(self) -> int:
        """Per token: query network, sub-key scores, experts."""
        queries = 2 * self.heads * DIM_KEY * (self.dim + self.sub_keys)
        return queries + 4 * self.active_experts * self.dim

    def router_parameters(self) -> int:
        """Query network, batch norm, sub-keys shared by the heads."""
        return self.heads * DIM_KEY * (self.dim + 2) + self.sub_keys * DIM_KEY

    def active_parameters(self) -> int:
        return self.router_parameters() + 2 * self.active_experts * self.dim

    def weights_moved(self) -> float:
        """Parameters that one call reads when its routing is uniform."""
        rows = touched(self.experts, self.tokens * self.active_experts)
        return self.router_parameters() + 2 * rows * self.dim


def touched(experts: int, draws: int) -> float:
    """Expected number of distinct experts in uniform draws."""
    return experts * (1 - (1 - 1 / experts) ** draws)


def hidden(layer: str, point: Point, kind: Kind, moe_experts: int) -> int:
    """The hidden width that brings `kind` of the baseline nearest to PEER's.

    A multiple of 8: grouped GEMMs need rows of 16 bytes, and tensor cores are slow without.
    """
    D = point.dim
    matrices = 3 if layer == "dense_glu" else 2
    router = 0 if layer.startswith("dense") else D * moe_experts
    # expert-choice computes ⌈T / E⌉ rows per expert
    rows = -(-point.tokens // moe_experts) * moe_experts / point.tokens
    active = {"topk_moe": 2.0, "expert_choice": 1.0}.get(layer, 1.0)
    if kind == "forward_flops":
        active = rows if layer == "expert_choice" else active
        width = (point.forward_flops() / 2 - router) / (active * matrices * D)
    elif kind == "active_parameters":
        width = (point.active_parameters() - router) / (active * matrices * D)
    elif kind == "bytes_moved":
        read = 1.0
        if layer == "topk_moe":
            read = touched(moe_experts, 2 * point.tokens)
        elif layer == "expert_choice":
            read = min(moe_experts, point.tokens)
        width = (point.weights_moved() - router) / (read * matrices * D)
    else:
        raise ValueError(f"no closed form matches {kind}")
    return max(8, 8 * round(width / 8))


def fine_grained(point: Point, moe_experts: int) -> Options:
    """A shared and 8 routed SwiGLU experts a token, as wide as PEER's FLOPs allow, whose rest buys experts.

    A multiple of 8 wide, as `hidden` is; an expert more costs no more than its column of the router.
    """
    topk, D = 8, point.dim
    least = max(topk, moe_experts)
    one_wide = 6 * D * (topk + 1)
    width = max(8, 8 * int((point.forward_flops() - 2 * D * least) / one_wide / 8))
    experts = max(least, round((point.forward_flops() - width * one_wide) / (2 * D)))
    return {"experts": experts, "topk": topk, "hidden": width}


def sparsely_gated_linear(point: Point, moe_experts: int) -> Options:
    """Half of PEER's experts a head, as many in all, and the number of heads that costs PEER's FLOPs."""
    topk = max(1, point.topk // 2)

    def side(heads: int) -> int:
        return math.isqrt(point.experts // heads)

    def gap(heads: int) -> float:
        per_head = 2 * DIM_KEY * side(heads) + 4 * topk * point.dim
        return abs(2 * point.dim * DIM_KEY + heads * per_head - point.forward_flops())

    heads = min((h for h in range(1, point.experts) if side(h) >= topk), key=gap)
    return {"experts": side(heads) ** 2, "heads": heads, "topk": topk}


def memory_plus(point: Point, moe_experts: int) -> Options:
    """As many values as PEER has experts, twice its rows, and the query width that costs PEER's FLOPs.

    Values are as wide as tokens, or half or a quarter of it where the gate alone would cost too much.
    """
    D, heads = point.dim, 4
    topk = min(point.sub_keys, 2 * point.active_experts // heads)
    for dim_value in (D, D // 2, D // 4):
        rest = point.forward_flops() - 2 * heads * topk * dim_value - 4 * D * dim_value
        dim_key = 2 * round(rest / (4 * heads * (D + point.sub_keys)))
        if dim_key >= DIM_KEY // 4:
            break
    sizes: Options = {"memories": point.experts, "heads": heads, "topk": topk}
    return sizes | {"dim_value": dim_value, "dim_key": dim_key}


def ultramem(point: Point, moe_experts: int) -> Options:
    """As many pairs as PEER has experts, 24 a token, and a feed-forward for the rest of its FLOPs."""
    D, S, rank, dim_key = point.dim, point.sub_keys, 2, DIM_KEY // 2
    topk = min(24, S)
    widths = D // 4 + 3 * D // 4
    memory = 4 * rank * (D + S) * dim_key + 4 * rank * S + 2 * rank * topk * (rank + topk)
    memory += 2 * (D + topk) * widths
    hidden = max(8, 8 * round((point.forward_flops() - memory) / (32 * D)))
    return {"experts": point.experts, "topk": topk, "dim_key": dim_key, "hidden": hidden}


SUCCESSORS: dict[str, Callable[[Point, int], Options]] = {
    "fine_grained_moe": fine_grained,
    "sparsely_gated_linear": sparsely_gated_linear,
    "memory_plus": memory_plus,
    "ultramem_v2": ultramem,
}


def baseline(layer: str, point: Point, kind: Kind, moe_experts: int) -> Options:
    """Options of a registered `layer` at `point`; PKM and PEER match by their own shape.

    What came after PEER is sized for equal FLOPs alone.
    """
    if layer in SUCCESSORS:
        if kind != "forward_flops":
            raise ValueError(f"{layer} is sized for forward_flops; got {kind}")
        return SUCCESSORS[layer](point, moe_experts)
    if layer == "peer":
        return {"experts": point.experts, "heads": point.heads, "topk": point.topk}
    if layer == "pkm":
        return {
            "memories": point.experts,
            "heads": point.heads,
            "topk": 2 * point.topk,
            # per-head keys cost the same FLOPs, and more parameters
            "shared_keys": kind != "forward_flops",
        }
    width: Options = {"hidden": hidden(layer, point, kind, moe_experts)}
    return width if layer.startswith("dense") else width | {"experts": moe_experts}
