"""Everything backward wants of the pairs in expert order, in one pass: the dots dy·up, the gradient of
each pair's scalars and the gradient of each table row, deterministic and without atomics.

The pairs come sorted by expert and are cut into pieces of LENGTH, one program each, whatever the
routing: a million experts with a pair or two, or one with all of them, is the same work per
program. A piece walks its pairs UNROLL at a time. What a pair needs (the row of dy, the row of x,
its expert's up row, its scalars) does not depend on its neighbours, so the rows of UNROLL pairs are
in flight together and dy is read once. Sums of a run of equal experts stay in float32 registers and
leave when the expert changes: one write per touched row, straight to the gradient, which was zeros.

A run that crosses pieces leaves a float32 partial row in each: slot 0 of a piece is the run that
came in from the left, slot 1 the one that starts inside and goes on. A second kernel adds them from
left to right. Pieces depend on the number of pairs alone, so the order of every sum is fixed by the
routing.

A row of the sum is written, or an optimizer takes its step with it at once (`update_rows`).
"""

# Triton has no starred expressions, and its tuples grow.
# ruff: noqa: RUF005
# mypy: disable-error-code=assignment

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from peer.kernels import launch, tuned
from peer.optim import AdamWStep, RowAdagradStep


@triton.jit
def gradients_of_pair(a, score, z, gate, ACTIVATION: tl.constexpr, GATED: tl.constexpr):
    """With a = dy·up: the gradients of score, down·x and gate·x, and the weight of the up row."""
    if ACTIVATION == "bag":
        return a, a, a, score
    inner = gate if GATED else z
    if ACTIVATION == "gelu":
        below = 0.5 * (1.0 + tl.math.erf(inner * 0.7071067811865476))
        value = inner * below
        slope = below + inner * 0.3989422804014327 * tl.exp(-0.5 * inner * inner)
    elif ACTIVATION == "silu":
        share = 1.0 / (1.0 + tl.exp(-inner))
        value = inner * share
        slope = share * (1.0 + inner * (1.0 - share))
    elif ACTIVATION == "none":
        value = inner
        slope = tl.where(inner < 0.0, 1.0, 1.0)
    else:
        value = tl.where(inner < 0.0, 0.0, inner)
        slope = tl.where(inner > 0.0, 1.0, 0.0)
    if GATED:
        return a * z * value, score * a * value, score * a * z * slope, score * z * value
    return a * value, score * a * slope, a, score * value


@triton.jit
def row_of(expert, touched_ptr, count):
    """Where `expert` stands in the ascending list of `count`, as int64."""
    low = count * 0
    high = count
    while high - low > 1:
        middle = (low + high) // 2
        below = tl.load(touched_ptr + middle) <= expert
        low = tl.where(below, middle, low)
        high = tl.where(below, high, middle)
    return low.to(tl.int64)


@triton.jit
def finish_row(total, out_ptr, row, column, step, D: tl.constexpr, STEP: tl.constexpr):
    """Writes a gradient row, or takes an optimizer's step on that row of the table at out_ptr.

    The gradient is rounded to the table's dtype first, so that a step here is the step of a stored
    gradient; arithmetic and moments are float32 (`peer.optim.AdamWStep`, `RowAdagradStep`).
    """
    mean_ptr, square_ptr, settings_ptr, mean_keep, square_keep, eps = step
    place = row * D + column
    inside = column < D
    if STEP == "none":
        tl.store(out_ptr + place, total.to(out_ptr.dtype.element_ty), mask=inside)
    else:
        grad = total.to(out_ptr.dtype.element_ty).to(tl.float32)
        value = tl.load(out_ptr + place, mask=inside, other=0.0).to(tl.float32)
        if STEP == "adamw":
            rate = tl.load(settings_ptr)
            scale = tl.load(settings_ptr + 1)
            shrink = tl.load(settings_ptr + 2)
            mean = tl.load(mean_ptr + place, mask=inside, other=0.0)
            square = tl.load(square_ptr + place, mask=inside, other=0.0)
            mean = mean * mean_keep + grad * (1.0 - mean_keep)
            square = square * square_keep + grad * grad * (1.0 - square_keep)
            tl.store(mean_ptr + place, mean, mask=inside)
            tl.store(square_ptr + place, square, mask=inside)
            value = value * shrink - mean / (tl.sqrt(square) / scale + eps) * rate
        else:
            square = tl.load(square_ptr + row) + tl.sum(grad * grad, axis=0) / D
            tl.store(square_ptr + row, square)
            value = value - tl.load(settings_ptr) * grad / (tl.sqrt(square) + eps)
        tl.store(out_ptr + place, value.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def finish_rows(
    sums, tables, row, column, step, TABLES: tl.constexpr, D: tl.constexpr, STEP: tl.constexpr
):
    for i in tl.static_range(TABLES):
        finish_row(sums[i], tables[i], row, column, step, D, STEP)


@triton.jit
def keep_partial(sums, slot, column, TABLES: tl.constexpr, D: tl.constexpr):
    for i in tl.static_range(TABLES):
        tl.store(slot + i * D + column, sums[i], mask=column < D)


@triton.jit(do_not_specialize=["pairs", "rows", "LENGTH"])
def runs_kernel(
    dy_ptr,
    x_ptr,
    up_ptr,
    order_ptr,
    experts_ptr,
    scores_ptr,
    hidden_ptr,
    gates_ptr,
    dscores_ptr,
    dhidden_ptr,
    dgates_ptr,
    weights_ptr,
    touched_ptr,
    dup_ptr,
    ddown_ptr,
    dgate_ptr,
    partial_ptr,
    through_ptr,
    mean_ptr,
    square_ptr,
    settings_ptr,
    pairs,
    rows,
    LENGTH,
    mean_keep,
    square_keep,
    eps,
    P: tl.constexpr,
    D: tl.constexpr,
    ACTIVATION: tl.constexpr,
    GATED: tl.constexpr,
    DOTS: tl.constexpr,
    TABLES: tl.constexpr,
    STEP: tl.constexpr,
    LISTED: tl.constexpr,
    UNROLL: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One piece of the sorted pairs. TABLES: up, down and gate, the first so many of them, are summed;
    without any, the weight of each pair's up row is stored instead. ACTIVATION "bag" is PKM's.
    """
    EXPERTS: tl.constexpr = ACTIVATION != "bag"
    step = (mean_ptr, square_ptr, settings_ptr, mean_keep, square_keep, eps)
    tables = (dup_ptr, ddown_ptr, dgate_ptr)
    piece = tl.program_id(0)
    left = piece * LENGTH
    right = left + tl.minimum(LENGTH, pairs - left)  # never beyond 2³¹ − 1
    column = tl.arange(0, COLUMNS)
    inside = column < D
    expert = tl.load(experts_ptr + left).to(tl.int64)
    entered = (left > 0) & (tl.load(experts_ptr + tl.maximum(left - 1, 0)) == expert)
    row = expert
    if LISTED:
        row = row_of(expert, touched_ptr, rows)
    slot = partial_ptr + piece.to(tl.int64) * (2 * TABLES * D)
    dup = tl.full((COLUMNS,), 0.0, tl.float32)
    ddown = tl.full((COLUMNS,), 0.0, tl.float32)
    dgate = tl.full((COLUMNS,), 0.0, tl.float32)
    for start in range(left, right, UNROLL):
        loaded = ()
        for i in tl.static_range(UNROLL):
            place = tl.minimum(start + i, right - 1)
            pair = tl.load(order_ptr + place)
            name = tl.load(experts_ptr + place).to(tl.int64)
            token = (pair // P).to(tl.int64) * D + column
            dy = tl.load(dy_ptr + token, mask=inside, other=0.0)
            x = dy
            if TABLES > 1:
                x = tl.load(x_ptr + token, mask=inside, other=0.0)
            up = dy
            if DOTS:
                up = tl.load(up_ptr + name * D + column, mask=inside, other=0.0)
            score = tl.load(scores_ptr + pair).to(tl.float32)
            z = score
            if EXPERTS:
                z = tl.load(hidden_ptr + pair)
            gate = score
            if GATED:
                gate = tl.load(gates_ptr + pair)
            loaded = loaded + ((pair, name, score, z, gate, dy, x, up),)
        for i in tl.static_range(UNROLL):
            pair, name, score, z, gate, dy, x, up = loaded[i]
            valid = start + i < right
            a = tl.sum(dy.to(tl.float32) * up.to(tl.float32), axis=0) if DOTS else score
            dscore, dh, dg, weight = gradients_of_pair(a, score, z, gate, ACTIVATION, GATED)
            if DOTS:
                tl.store(dscores_ptr + pair, dscore.to(dscores_ptr.dtype.element_ty), mask=valid)
            if EXPERTS:
                tl.store(dhidden_ptr + pair, dh, mask=valid)
            if GATED:
                tl.store(dgates_ptr + pair, dg, mask=valid)
            if TABLES == 0:
                tl.store(weights_ptr + pair, weight, mask=valid)
            else:
                if name != expert:
                    sums = (dup, ddown, dgate)
                    if entered:
                        keep_partial(sums, slot, column, TABLES, D)
                    else:
                        finish_rows(sums, tables, row, column, step, TABLES, D, STEP)
                    entered = False
                    row = row + 1 if LISTED else name
                    expert = name
                    dup = tl.full((COLUMNS,), 0.0, tl.float32)
                    ddown = tl.full((COLUMNS,), 0.0, tl.float32)
                    dgate = tl.full((COLUMNS,), 0.0, tl.float32)
                dup += tl.where(valid, weight, 0.0) * dy.to(tl.float32)
                if TABLES > 1:
                    ddown += tl.where(valid, dh, 0.0) * x.to(tl.float32)
                if TABLES > 2:
                    dgate += tl.where(valid, dg, 0.0) * x.to(tl.float32)
    if TABLES > 0:
        sums = (dup, ddown, dgate)
        goes_on = (right < pairs) & (tl.load(experts_ptr + tl.minimum(right, pairs - 1)) == expert)
        tl.store(through_ptr + piece, (entered & goes_on).to(tl.int32))
        if entered:
            keep_partial(sums, slot, column, TABLES, D)
        elif goes_on:
            keep_partial(sums, slot + TABLES * D, column, TABLES, D)
        else:
            finish_rows(sums, tables, row, column, step, TABLES, D, STEP)


@triton.jit(do_not_specialize=["pairs", "pieces", "rows", "LENGTH"])
def combine_kernel(
    experts_ptr,
    touched_ptr,
    dup_ptr,
    ddown_ptr,
    dgate_ptr,
    partial_ptr,
    through_ptr,
    mean_ptr,
    square_ptr,
    settings_ptr,
    pairs,
    pieces,
    rows,
    LENGTH,
    mean_keep,
    square_keep,
    eps,
    D: tl.constexpr,
    TABLES: tl.constexpr,
    STEP: tl.constexpr,
    LISTED: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Program `piece` finishes the run that starts in it and goes on, if one does: at most one can."""
    step = (mean_ptr, square_ptr, settings_ptr, mean_keep, square_keep, eps)
    tables = (dup_ptr, ddown_ptr, dgate_ptr)
    piece = tl.program_id(0)
    left = piece * LENGTH
    if pairs - left > LENGTH:
        right = left + LENGTH
        expert = tl.load(experts_ptr + right).to(tl.int64)
        starts = (left == 0) | (tl.load(experts_ptr + tl.maximum(left - 1, 0)) != expert)
        if starts & (tl.load(experts_ptr + right - 1) == expert):
            end = piece + 1  # the first piece that the run does not go through: it ends there
            looking = True
            while looking:
                ahead = end + tl.arange(0, 32)
                through = tl.load(through_ptr + ahead, mask=ahead < pieces, other=0)
                found = tl.min(tl.where(through == 0, ahead, end + 32), axis=0)
                looking = found == end + 32
                end = found
            column = tl.arange(0, COLUMNS)
            inside = column < D
            row = expert
            if LISTED:
                row = row_of(expert, touched_ptr, rows)
            size = 2 * TABLES * D
            first = piece.to(tl.int64) * size + column
            for i in tl.static_range(TABLES):
                part = partial_ptr + first + i * D
                total = tl.load(part + TABLES * D, mask=inside, other=0.0)
                for _ in range(end - piece):
                    part += size
                    total += tl.load(part, mask=inside, other=0.0)
                finish_row(total, tables[i], row, column, step, D, STEP)


def walk_runs(
    tables: list[Tensor],
    dy_TD: Tensor,
    scores_TP: Tensor,
    order: Tensor,
    experts: Tensor,
    *,
    touched: Tensor | None = None,
    up_ND: Tensor | None = None,
    activation: str = "bag",
    x_TD: Tensor | None = None,
    hidden_TP: Tensor | None = None,
    gates_TP: Tensor | None = None,
    step: AdamWStep | RowAdagradStep | None = None,
) -> tuple[Tensor, ...]:
    """Writes the rows of `tables` (up, down, gate, the first so many) that have a pair.

    `order` are the pairs sorted by expert, `experts` the expert of each; with `touched` the tables
    have a row for each of those experts. Returns what a pair has of its own: the gradients of score
    (empty without `up_ND`), of down·x and gate·x and, without tables, the weight of its up row.
    """
    P, D, pairs = scores_TP.shape[1], dy_TD.shape[1], order.numel()
    glu = gates_TP is not None and gates_TP.dim() == 2
    empty = scores_TP.new_empty(0, dtype=torch.float32)
    dscores_TP = torch.empty_like(scores_TP) if up_ND is not None else empty
    dhidden_TP = empty if hidden_TP is None else torch.empty_like(hidden_TP)
    dgates_TP = torch.empty_like(dhidden_TP) if glu else empty
    weights_TP = empty if tables else scores_TP.new_empty(scores_TP.shape, dtype=torch.float32)
    results = dscores_TP, dhidden_TP, dgates_TP, weights_TP
    if pairs == 0 or D == 0:
        return results
    length = launch.piece(pairs)
    pieces = triton.cdiv(pairs, length)
    partial = empty.new_empty(pieces, 2, len(tables), D)
    through = torch.empty(pieces, dtype=torch.int32, device=order.device)
    chosen = tuned.settings("runs_kernel", dy_TD, dy_TD.shape[0])
    tile = launch.runs(D, dy_TD.element_size(), chosen)
    outputs = [*tables, empty, empty, empty][:3]
    rows = 0 if touched is None else touched.numel()
    listed = order if touched is None else touched
    constants = {"TABLES": len(tables), "LISTED": touched is not None, "D": D} | step_of(step)
    with launch.on_device(dy_TD):
        runs_kernel[(pieces,)](
            dy_TD,
            dy_TD if x_TD is None else x_TD,
            dy_TD if up_ND is None else up_ND,
            order,
            experts,
            scores_TP,
            empty if hidden_TP is None else hidden_TP,
            gates_TP if glu else empty,
            *results,
            listed,
            *outputs,
            partial,
            through,
            pairs=pairs,
            rows=rows,
            LENGTH=length,
            P=P,
            ACTIVATION=activation,
            GATED=glu,
            DOTS=up_ND is not None,
            **constants,
            **tile,
        )
        if tables and pieces > 1:
            combine_kernel[(pieces,)](
                experts,
                listed,
                *outputs,
                partial,
                through,
                pairs=pairs,
                pieces=pieces,
                rows=rows,
                LENGTH=length,
                **constants,
                **launch.combine(D),
            )
    return results


def step_of(step: AdamWStep | RowAdagradStep | None) -> dict[str, Any]:
    """What the kernels take of an optimizer's step; where there is none, nothing of it is read."""
    taken: dict[str, Any] = {
        "mean_ptr": None,
        "square_ptr": None,
        "settings_ptr": None,
        "STEP": "none",
    }
    taken |= {"mean_keep": 0.0, "square_keep": 0.0, "eps": 0.0}
    if step is None:
        return taken
    taken |= {"square_ptr": step.square, "settings_ptr": step.settings, "eps": step.eps}
    if isinstance(step, AdamWStep):
        mean_keep, square_keep = step.betas
        return taken | {
            "STEP": "adamw",
            "mean_ptr": step.mean,
            "mean_keep": mean_keep,
            "square_keep": square_keep,
        }
    return taken | {"STEP": "row_adagrad"}


def experts_gradients(
    grad_y: Tensor,
    x: Tensor,
    scores: Tensor,
    up: Tensor,
    gate: Tensor | None,
    order: Tensor,
    experts: Tensor,
    touched: Tensor | None,
    hidden: Tensor,
    gates: Tensor,
    activation: str,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """dscore (T, P), dh and dgate (T, P) float32, and the gradients of up, down and gate in one pass."""
    tables = new_tables(2 if gate is None else 3, up, touched)
    dscores, dhidden, dgates, _ = walk_runs(
        tables,
        grad_y,
        scores,
        order,
        experts,
        touched=touched,
        up_ND=up,
        activation=activation,
        x_TD=x,
        hidden_TP=hidden,
        gates_TP=gates,
    )
    return dscores, dhidden, dgates, tables


def pair_gradients(
    grad_y: Tensor,
    scores: Tensor,
    up: Tensor,
    order: Tensor,
    experts: Tensor,
    hidden: Tensor,
    gates: Tensor,
    activation: str,
) -> tuple[Tensor, ...]:
    """As `experts_gradients`, without tables, and the weight of each pair's up row, (T, P) float32."""
    return walk_runs(
        [],
        grad_y,
        scores,
        order,
        experts,
        up_ND=up,
        activation=activation,
        hidden_TP=hidden,
        gates_TP=gates,
    )


def bag_gradients(
    grad_y: Tensor,
    scores: Tensor,
    table: Tensor,
    order: Tensor,
    experts: Tensor,
    touched: Tensor | None,
    need_scores: bool,
    need_table: bool,
) -> tuple[Tensor, Tensor]:
    """dscore (T, P) and the table's gradient, empty where not needed."""
    tables = new_tables(int(need_table), table, touched)
    up = table if need_scores else None
    dscores, *_ = walk_runs(tables, grad_y, scores, order, experts, touched=touched, up_ND=up)
    return (
        dscores if need_scores else scores.new_empty(0),
        tables[0] if need_table else table.new_empty(0),
    )


def new_tables(count: int, like: Tensor, touched: Tensor | None) -> list[Tensor]:
    """Gradients that are zero where no pair is; every row in `touched` has one and is written."""
    if touched is None:
        return [torch.zeros_like(like) for _ in range(count)]
    return [like.new_empty(touched.numel(), like.shape[1]) for _ in range(count)]


def table_gradient(
    weights_TP: Tensor, rows_TD: Tensor, order: Tensor, experts: Tensor, outputs: int
) -> Tensor:
    """(outputs, D): row n is the sum over the pairs routed to n of weight · row of the pair's token."""
    out = rows_TD.new_zeros(outputs, rows_TD.shape[1])
    walk_runs([out], rows_TD.contiguous(), weights_TP.contiguous(), order, experts)
    return out


def update_rows(
    table_ND: Tensor,
    weights_TP: Tensor,
    rows_TD: Tensor,
    order: Tensor,
    experts: Tensor,
    step: AdamWStep | RowAdagradStep,
) -> None:
    """Applies an optimizer's `step` to the rows of `table_gradient` with a pair, as they are summed."""
    walk_runs([table_ND], rows_TD, weights_TP, order, experts, step=step)
