"""What a layer will do with so many tokens, and what that must cost at least."""

import functools
import time
from dataclasses import dataclass

import torch

from peer import costs
from peer.choice import numba_installed, resolve
from peer.layer import PEER
from peer.sizes import check_sizes

H200_BYTES_PER_SECOND = 4.3e12  # a measured device-to-device copy, for tables on no device
COPIED_BYTES = 2**27  # of a copy that measures the roof: more than any cache
TABLES = {"dense": "gradients of all rows", "sparse": "gradients of the rows touched"}


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Counted, not measured: compulsory bytes for routing near uniform, and their time at the
    `roof`, in bytes per second.
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
    roof: str

    def __str__(self) -> str:
        lines = [f"{self.impl}: {self.reason}", f"forward: {self.forward_path}"]
        lines.append(f"tables: {self.tables}")
        lines.append(f"experts touched: {self.distinct_experts:,.0f}")
        lines.append(f"roof: {self.roof}")
        for name in ("forward", "backward"):
            flops, size, floor_us = (
                getattr(self, f"{name}_{k}") for k in ("flops", "bytes", "floor_us")
            )
            lines.append(f"{name}: {flops:,} FLOPs, {size:,.0f} B, floor {floor_us:.1f} µs")
        return "\n".join(lines)


def explain(layer: PEER, tokens: int, *, bytes_per_second: float | None = None) -> Explanation:
    """The path `layer` takes for a training step on `tokens` tokens, its FLOPs, bytes and floor.

    The floor is the bytes' time at `bytes_per_second`, by default what a copy on the tables' device
    reaches, measured once (an H200's for tables on the meta device).
    """
    check_sizes(tokens=tokens)
    router, table = layer.router, layer.down
    pairs = tokens * router.heads * router.topk
    impl = resolve(layer.impl, table.device, table.dtype, pairs)
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
    where, rate = roof(table.device)
    if bytes_per_second is not None:
        where, rate = "as given", bytes_per_second
    return Explanation(
        impl=impl,
        reason=reason(layer, impl),
        forward_path=forward_path(impl, layer),
        forward_flops=sum(flops.values()),
        backward_flops=2 * (flops["query"] + flops["experts"]) + 4 * pairs * router.dim_key,
        distinct_experts=distinct,
        forward_bytes=forward,
        backward_bytes=backward,
        forward_floor_us=forward / rate * 1e6,
        backward_floor_us=backward / rate * 1e6,
        tables=(
            TABLES[layer.table_grad]
            if isinstance(layer.table_grad, str)
            else f"take the step of {type(layer.table_grad).__name__} inside backward"
        ),
        roof=f"{rate / 1e9:,.1f} GB/s, {where}",
    )


@functools.cache
def roof(device: torch.device) -> tuple[str, float]:
    """What the roof is, and bytes read and written per second by a copy."""
    if device.type == "meta":
        return "an H200's, as the tables are on no device", H200_BYTES_PER_SECOND
    source = torch.zeros(COPIED_BYTES // 4, device=device)
    target = torch.zeros_like(source)
    times = []
    for _ in range(5):
        synchronize(device)
        start = time.perf_counter()
        target.copy_(source)
        synchronize(device)
        times.append(time.perf_counter() - start)
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"a copy measured on this {device.type}{threads}", 2 * COPIED_BYTES / min(times)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reason(layer: PEER, impl: str) -> str:
    if layer.impl != "auto":
        return f"asked for by name, impl={layer.impl!r}"
    if impl == "triton":
        return "tables on a GPU, triton installed (predicted from counted bytes, not yet measured)"
    if impl == "native":
        return "faster than aten at the measured size nearest to this one"
    if layer.down.device.type == "cpu" and not numba_installed():
        return "numba, which native needs, is not installed: pip install numba"
    return f"no faster kernel for {layer.down.dtype} tables on {layer.down.device}"


def forward_path(impl: str, layer: PEER) -> str:
    if impl == "triton":
        return "token-major, one fused pass; backward sorts the pairs by expert"
    if impl not in ("aten", "native"):
        return "rows are gathered, (T, P, D) is materialised"
    if any(table.requires_grad for table in layer.tables()):
        return "pairs sorted by expert, dots expert-major, weighted sum token-major"
    return "token-major"
