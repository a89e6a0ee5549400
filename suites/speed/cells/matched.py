"""Baselines sized so that one quantity equals PEER's, solved from closed forms. Imports no torch.

Tests compare these forms with the ones that the layers carry.
"""

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


def baseline(layer: str, point: Point, kind: Kind, moe_experts: int) -> Options:
    """Options of a registered `layer` at `point`; PKM and PEER match by their own shape."""
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
