"""What each operator costs: FLOPs, a multiply-add counted as 2, and bytes that must move.

A FLOP formula takes the operator's arguments with shapes in the place of tensors (None where the
argument is None), the convention of `torch.utils.flop_counter.register_flop_formula`. Only dot
products and weighted sums are counted: comparisons, nonlinearities and the sort are free.

Bytes are the compulsory traffic: each distinct table row, each token and each pair's scalars once.
They are a bound from counting, not a measurement.
"""

import math
from collections.abc import Callable, Sequence

from peer.namespace import NAMESPACE

Shape = Sequence[int]


def retrieve_flops(
    query: Shape, sub_keys: Shape, topk: int, scores: str, impl: str, **_: object
) -> int:
    T, H, width = query
    return 2 * T * H * width * sub_keys[-2]


def retrieve_backward_flops(
    grad: Shape,
    scores: Shape,
    ids: Shape,
    query: Shape,
    sub_keys: Shape,
    nonlinearity: str,
    impl: str,
    need_query: bool,
    need_keys: bool,
    **_: object,
) -> int:
    T, H, K = ids
    return 2 * T * H * K * query[-1] * (need_query + need_keys)


def experts_flops(
    x: Shape,
    ids: Shape,
    scores: Shape,
    down: Shape,
    up: Shape,
    gate: Shape | None = None,
    *_: object,
    **__: object,
) -> int:
    T, P = ids
    return 2 * T * P * x[1] * (3 if gate else 2)


def experts_backward_flops(
    grad_y: Shape,
    x: Shape,
    ids: Shape,
    scores: Shape,
    down: Shape,
    up: Shape,
    gate: Shape | None,
    order: Shape | None,
    bounds: Shape | None,
    touched: Shape | None,
    hidden: Shape,
    gates: Shape,
    activation: str,
    impl: str,
    need_x: bool,
    need_scores: bool,
    need_tables: bool,
    **_: object,
) -> int:
    T, P = ids
    inner = 2 if gate else 1
    passes = 1 + inner * need_x + (1 + inner) * need_tables
    return 2 * T * P * x[1] * passes


def bag_flops(ids: Shape, scores: Shape, table: Shape, *_: object, **__: object) -> int:
    T, P = ids
    return 2 * T * P * table[1]


def bag_backward_flops(
    grad_y: Shape,
    ids: Shape,
    scores: Shape,
    table: Shape,
    order: Shape | None,
    bounds: Shape | None,
    touched: Shape | None,
    impl: str,
    need_scores: bool,
    need_table: bool,
    **_: object,
) -> int:
    T, P = ids
    return 2 * T * P * table[1] * (need_scores + need_table)


def few_tokens_flops(
    x: Shape,
    weight: Shape,
    bias: Shape | None,
    norm: str | None,
    norm_tensors: list[Shape],
    eps: float,
    sub_keys: Shape,
    down: Shape,
    up: Shape,
    gate: Shape | None,
    topk: int,
    *_: object,
    **__: object,
) -> int:
    (T, D), heads = x, weight[0] // (2 * sub_keys[-1])
    query = 2 * T * weight[0] * (D + sub_keys[-2])
    return query + 2 * T * heads * topk * D * (3 if gate else 2)


def no_flops(*_: object, **__: object) -> int:
    return 0


FLOPS: dict[str, Callable[..., int]] = {
    f"{NAMESPACE}::retrieve": retrieve_flops,
    f"{NAMESPACE}::retrieve_backward": retrieve_backward_flops,
    f"{NAMESPACE}::route": no_flops,
    f"{NAMESPACE}::touched": no_flops,
    f"{NAMESPACE}::experts": experts_flops,
    f"{NAMESPACE}::experts_backward": experts_backward_flops,
    f"{NAMESPACE}::few_tokens": few_tokens_flops,
    f"{NAMESPACE}::bag": bag_flops,
    f"{NAMESPACE}::bag_backward": bag_backward_flops,
}


def distinct_experts(pairs: int, experts: int) -> float:
    """How many of N experts P·T uniform draws are expected to touch."""
    return -experts * math.expm1(pairs * math.log1p(-1 / experts)) if experts > 1 else 1.0


def retrieve_bytes(
    tokens: int, heads: int, topk: int, dim_key: int, sub_keys: int, element_bytes: int
) -> int:
    """Queries and sub-keys in; a 4-byte score and a 4-byte id per selected expert out."""
    query = tokens * heads * dim_key
    return (query + sub_keys * dim_key) * element_bytes + 8 * tokens * heads * topk


def experts_bytes(
    tokens: int, pairs: int, dim: int, distinct: float, element_bytes: int, tables: int = 2
) -> float:
    """Forward: each distinct row of each table, x in, y out, id and score in, pre-activations
    out.
    """
    rows = tables * distinct * dim * element_bytes
    return rows + 2 * tokens * dim * element_bytes + pairs * (4 + element_bytes + 4 * (tables - 1))


def experts_backward_bytes(
    tokens: int,
    pairs: int,
    dim: int,
    distinct: float,
    rows_out: float,
    element_bytes: int,
    tables: int = 2,
    state_bytes: int = 0,
) -> float:
    """Backward: distinct rows in, x and dy in, dx out, `rows_out` rows of each table's gradient (or
    of the table, where it takes its step) out, the pairs' scalars both ways, and `state_bytes` of
    optimizer state per distinct row.
    """
    rows = tables * ((distinct + rows_out) * dim * element_bytes + distinct * state_bytes)
    scalars = pairs * (4 + 2 * element_bytes + 4 * (tables - 1))
    return rows + 3 * tokens * dim * element_bytes + scalars
