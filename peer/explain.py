"""What a layer will do with so many tokens, and what that must cost at least."""

import functools
import time
from dataclasses import dataclass, field

import torch

from peer import costs, predicted
from peer.choice import numba_installed, resolve
from peer.layer import PEER
from peer.sizes import check_sizes

COPIED_BYTES = 2**27  # of a copy that measures the roof: more than any cache
TABLES = {"dense": "gradients of all rows", "sparse": "gradients of the rows touched"}


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Counted, not measured: compulsory bytes for routing near uniform, and their time at the
    `roof`, in bytes per second.

    `predicted_us` are an H200's times for the Triton kernels, (least, likely, most) of "forward" and of
    "backward" (`peer.predicted`): neither measured nor comparable with what is. Empty where no binary of
    the layer's sizes was counted; the query network is not in them.
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
    tiles: str = ""
    predicted_us: dict[str, tuple[float, float, float]] = field(default_factory=dict)

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
        if self.tiles:
            lines.append(f"tiles: {self.tiles}")
        for name, times in self.predicted_us.items():
            floor_us = predicted.floor_us(getattr(self, f"{name}_bytes"))
            least, likely, most = times
            lines.append(
                f"{name}, predicted on an H200, not measured: {likely:,.0f} µs ({least:,.0f} to "
                f"{most:,.0f}), {likely / floor_us:.2f} ({least / floor_us:.2f} to "
                f"{most / floor_us:.2f}) times its floor there"
            )
        return "\n".join(lines)


def explain(layer: PEER, tokens: int, *, bytes_per_second: float | None = None) -> Explanation:
    """The path `layer` takes for a training step on `tokens` tokens, its FLOPs, bytes and floor.

    The floor, in microseconds, is the bytes' time at `bytes_per_second`, by default what a copy on the
    tables' device reaches, measured once (an H200's for tables on the meta device). Raises ValueError
    for `tokens` below 1, and where the layer's `impl` cannot run.
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
        tiles=tiles(layer) if impl == "triton" else "",
        predicted_us=predictions(layer, tokens) if impl == "triton" else {},
    )


@functools.cache
def roof(device: torch.device) -> tuple[str, float]:
    """What the roof is, and bytes read and written per second by a copy."""
    if device.type == "meta":
        return "an H200's, as the tables are on no device", predicted.BYTES_PER_SECOND
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


def tiles(layer: PEER) -> str:
    """Where the kernels' warps and rows in flight come from."""
    from peer.kernels import tuned  # imports triton

    table = layer.down
    if table.is_cuda and tuned.rows_of(tuned.name_of(table.device)):
        return f"measured on {tuned.name_of(table.device)}, for rows of two bytes a number"
    return "counted, no GPU like this one was measured; python -m suites tune does it"


def predictions(layer: PEER, tokens: int) -> dict[str, tuple[float, float, float]]:
    """Of experts and retrieval, forward and backward, where binaries of these sizes were counted."""
    router = layer.router
    size, S = layer.down.element_size(), router.sub_keys.shape[-2]
    plain = layer.gate is None and isinstance(layer.table_grad, str)
    counted_router = (router.topk, router.dim_key) == (16, 128) and S <= 1024
    if size != 2 or not plain or not counted_router:
        return {}
    pairs = tokens * router.heads * router.topk
    distinct = costs.distinct_experts(pairs, router.experts)
    call = predicted.Experts(tokens, pairs, layer.dim, router.experts, distinct, size)
    queries = predicted.Retrieval(tokens * router.heads, S, router.dim_key, router.topk, size)
    issued = {name: predicted.counted(name, layer.dim) for name in ("forward", "backward")}
    if not all(issued.values()):
        return {}
    issued |= {
        name: predicted.counted(name, router.dim_key) for name in ("retrieve", "retrieve_backward")
    }
    sparse = layer.table_grad == "sparse"
    steps = {
        "forward": predicted.retrieve(queries, issued["retrieve"])
        + predicted.forward(call, issued["forward"]),
        "backward": predicted.backward(call, issued["backward"], sparse)
        + predicted.retrieve_backward(queries, issued["retrieve_backward"]),
    }
    times = {name: predicted.predicted_us(works) for name, works in steps.items()}
    return {name: (t["least"], t["likely"], t["most"]) for name, t in times.items()}


def forward_path(impl: str, layer: PEER) -> str:
    if impl == "triton":
        return "token-major, one fused pass; backward sorts the pairs by expert"
    if impl not in ("aten", "native"):
        return "rows are gathered, (T, P, D) is materialised"
    if any(table.requires_grad for table in layer.tables()):
        return "pairs sorted by expert, dots expert-major, weighted sum token-major"
    return "token-major"
