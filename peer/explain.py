"""What a layer will do with so many tokens, and what that must cost at least."""

from dataclasses import dataclass

from peer import costs
from peer.choice import resolve
from peer.layer import PEER

# Measured device-to-device copy of an H200. Another machine has another floor: pass its own.
BYTES_PER_SECOND = 4.3e12
TABLES = {"dense": "gradients of all rows", "sparse": "gradients of the rows touched"}


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Counted, not measured: compulsory bytes for routing near uniform, and their time at
    `bytes_per_second`.
    """

    impl: str
    reason: str
    forward_path: str
    tables: str
    forward_flops: int
    backward_flops: int
    distinct_experts: float
    forward_bytes: float
    backward_bytes: float
    forward_floor_us: float
    backward_floor_us: float

    def __str__(self) -> str:
        lines = [f"{self.impl}: {self.reason}", f"forward: {self.forward_path}"]
        lines.append(f"tables: {self.tables}")
        lines.append(f"experts touched: {self.distinct_experts:,.0f}")
        for name in ("forward", "backward"):
            flops, size, floor_us = (
                getattr(self, f"{name}_{k}") for k in ("flops", "bytes", "floor_us")
            )
            lines.append(f"{name}: {flops:,} FLOPs, {size:,.0f} B, floor {floor_us:.1f} µs")
        return "\n".join(lines)


def explain(layer: PEER, tokens: int, *, bytes_per_second: float = BYTES_PER_SECOND) -> Explanation:
    """The path `layer` takes for a training step on `tokens` tokens, its FLOPs, bytes and floor."""
    if tokens < 1:
        raise ValueError(f"tokens must be at least 1; got {tokens}")
    router, table = layer.router, layer.down
    impl = resolve(layer.impl, table.device, table.dtype)
    pairs = tokens * router.heads * router.topk
    size = table.element_size()
    distinct = costs.distinct_experts(pairs, router.experts)
    tables = len(layer.tables())
    retrieve_bytes = costs.retrieve_bytes(
        tokens, router.heads, router.topk, router.dim_key, router.sub_keys.shape[-2], size
    )
    forward = retrieve_bytes + costs.experts_bytes(tokens, pairs, layer.dim, distinct, size, tables)
    optimizer = None if isinstance(layer.table_grad, str) else layer.table_grad
    backward = retrieve_bytes + costs.experts_backward_bytes(
        tokens,
        pairs,
        layer.dim,
        distinct,
        router.experts if layer.table_grad == "dense" else distinct,
        size,
        tables,
        optimizer.state_bytes(layer.dim) if optimizer else 0,
    )
    flops = layer.flops(tokens)
    return Explanation(
        impl=impl,
        reason=reason(layer, impl),
        forward_path=forward_path(impl, layer),
        forward_flops=sum(flops.values()),
        backward_flops=2 * (flops["query"] + flops["experts"]) + 4 * pairs * router.dim_key,
        distinct_experts=distinct,
        forward_bytes=forward,
        backward_bytes=backward,
        forward_floor_us=forward / bytes_per_second * 1e6,
        backward_floor_us=backward / bytes_per_second * 1e6,
        tables=(
            TABLES[layer.table_grad]
            if isinstance(layer.table_grad, str)
            else f"take the step of {type(layer.table_grad).__name__} inside backward"
        ),
    )


def reason(layer: PEER, impl: str) -> str:
    if layer.impl != "auto":
        return f"asked for by name, impl={layer.impl!r}"
    if impl == "triton":
        return "tables on a GPU, triton installed (predicted from counted bytes, not yet measured)"
    return f"no GPU kernel for {layer.down.dtype} tables on {layer.down.device}"


def forward_path(impl: str, layer: PEER) -> str:
    if impl == "triton":
        return "token-major, one fused pass; backward sorts the pairs by expert"
    if impl not in ("aten", "native"):
        return "rows are gathered, (T, P, D) is materialised"
    if any(table.requires_grad for table in layer.tables()):
        return "pairs sorted by expert, dots expert-major, weighted sum token-major"
    return "token-major"
