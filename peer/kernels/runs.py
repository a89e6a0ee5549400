"""d table[n] = Σ over the pairs of expert n of weight · row of the pair's token; expert-major,
deterministic. The row of the sum is written, or an optimizer takes its step with it at once.

The pairs come sorted by expert, so expert n owns the run bounds[n] … bounds[n+1]. Every gradient
row is the sum of one run, held in float32 registers and written once: no atomics, and untouched
rows are written as the zeros of an empty run. A step leaves them alone.

Runs longer than LONGEST pairs (trained routing is Zipf-like) would leave one program working alone.
They are cut where the sorted list crosses a multiple of LONGEST. Such a run is longer than a piece
of the list, so a piece meets at most two of them: one that came in from the left (slot 0) and one
that starts inside (slot 1). Both slots have a float32 row in `partial`, so the grid is known
without looking at the data. A second kernel adds the pieces of a long run from left to right: the
order of the sum is fixed by the routing alone.

Columns are sliced and the slice is the slow axis of the grid: all runs of one slice before the
next, so that the slice of the tokens' rows, T·COLUMNS elements, stays in L2 where T·D would not.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from peer.kernels.launch import column_block, on_device, rows_at_once, warps
from peer.optim import AdamWStep, RowAdagradStep

L2_BYTES = 50_000_000
# AdamW's moments want registers besides the sum: 512 columns spill on sm_80. A row's mean square
# takes the whole row in one program.
STEP_COLUMNS = {"none": 512, "adamw": 256, "row_adagrad": 2**20}
EXPERTS_PER_PROGRAM = 4


@triton.jit
def last_at_most(values_ptr, count, value):
    """The largest i < count with values[i] ≤ value, in an ascending list that starts at or below
    value.
    """
    low = value * 0
    high = low + count
    while high - low > 1:
        middle = (low + high) // 2
        below = tl.load(values_ptr + middle) <= value
        low = tl.where(below, middle, low)
        high = tl.where(below, high, middle)
    return low


@triton.jit
def sum_run(
    weights_ptr,
    rows_ptr,
    order_ptr,
    first,
    last,
    P,
    D,
    column,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Σ over the sorted pairs [first, last) of weight · row of the pair's token, in float32."""
    total = tl.zeros((COLUMNS,), tl.float32)
    inside = column < D
    for start in range(first, last, ROWS):
        place = start + tl.arange(0, ROWS)
        valid = place < last
        pair = tl.load(order_ptr + place, mask=valid, other=0).to(tl.int64)
        weight = tl.load(weights_ptr + pair, mask=valid, other=0.0).to(tl.float32)
        mask = valid[:, None] & inside[None, :]
        row = tl.load(rows_ptr + (pair // P)[:, None] * D + column[None, :], mask=mask, other=0.0)
        total += tl.sum(weight[:, None] * row.to(tl.float32), axis=0)
    return total


@triton.jit
def finish_row(
    total,
    out_ptr,
    mean_ptr,
    square_ptr,
    row,
    D,
    column,
    rate,
    shrink,
    mean_keep,
    mean_take,
    square_keep,
    square_take,
    scale,
    eps,
    STEP: tl.constexpr,
):
    """Writes a gradient row, or takes an optimizer's step on that row of the table at out_ptr.

    The gradient is rounded to the table's dtype first, so that a step here is the step of a stored
    gradient; arithmetic and moments are float32 (`peer.optim.AdamWStep`, `RowAdagradStep`).
    """
    place = row * D + column
    mask = column < D
    if STEP == "none":
        tl.store(out_ptr + place, total.to(out_ptr.dtype.element_ty), mask=mask)
    else:
        grad = total.to(out_ptr.dtype.element_ty).to(tl.float32)
        value = tl.load(out_ptr + place, mask=mask, other=0.0).to(tl.float32)
        if STEP == "adamw":
            mean = tl.load(mean_ptr + place, mask=mask, other=0.0)
            square = tl.load(square_ptr + place, mask=mask, other=0.0)
            mean = mean * mean_keep + grad * mean_take
            square = square * square_keep + grad * grad * square_take
            tl.store(mean_ptr + place, mean, mask=mask)
            tl.store(square_ptr + place, square, mask=mask)
            value = value * shrink - mean / (tl.sqrt(square) / scale + eps) * rate
        else:
            square = tl.load(square_ptr + row) + tl.sum(grad * grad, axis=0) / D
            tl.store(square_ptr + row, square)
            value = value - rate * grad / (tl.sqrt(square) + eps)
        tl.store(out_ptr + place, value.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def runs_kernel(
    weights_ptr,
    rows_ptr,
    order_ptr,
    bounds_ptr,
    touched_ptr,
    out_ptr,
    mean_ptr,
    square_ptr,
    outputs,
    programs,
    P,
    D,
    LONGEST,
    rate,
    shrink,
    mean_keep,
    mean_take,
    square_keep,
    square_take,
    scale,
    eps,
    STEP: tl.constexpr,
    LISTED: tl.constexpr,
    EXPERTS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """EXPERTS output rows per program; those of long runs are left to `combine_kernel`."""
    slice_index = tl.program_id(0) // programs
    column = slice_index * COLUMNS + tl.arange(0, COLUMNS)
    base = (tl.program_id(0) % programs).to(tl.int64) * EXPERTS
    for i in range(EXPERTS):
        output = base + i
        if output < outputs:
            expert = output
            if LISTED:
                expert = tl.load(touched_ptr + output)
            first = tl.load(bounds_ptr + expert)
            last = tl.load(bounds_ptr + expert + 1)
            if (last - first <= LONGEST) & ((STEP == "none") | (last > first)):
                total = sum_run(
                    weights_ptr, rows_ptr, order_ptr, first, last, P, D, column, ROWS, COLUMNS
                )
                finish_row(
                    total,
                    out_ptr,
                    mean_ptr,
                    square_ptr,
                    output,
                    D,
                    column,
                    rate,
                    shrink,
                    mean_keep,
                    mean_take,
                    square_keep,
                    square_take,
                    scale,
                    eps,
                    STEP,
                )


@triton.jit
def pieces_kernel(
    weights_ptr,
    rows_ptr,
    order_ptr,
    bounds_ptr,
    partial_ptr,
    experts,
    pairs,
    programs,
    P,
    D,
    LONGEST,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Program 2·piece + slot sums the part of its long run that lies in its piece of the sorted
    list.
    """
    slice_index = tl.program_id(0) // programs
    program = tl.program_id(0) % programs
    column = slice_index * COLUMNS + tl.arange(0, COLUMNS)
    slot = program % 2
    left = (program // 2) * LONGEST
    right = tl.minimum(left + LONGEST, pairs)
    probe = tl.where(slot == 0, left, right - 1)
    expert = last_at_most(bounds_ptr, experts, probe)
    first = tl.load(bounds_ptr + expert)
    last = tl.load(bounds_ptr + expert + 1)
    starts_here = first >= left
    if (last - first > LONGEST) & (starts_here == (slot == 1)):
        total = sum_run(
            weights_ptr,
            rows_ptr,
            order_ptr,
            tl.maximum(first, left),
            tl.minimum(last, right),
            P,
            D,
            column,
            ROWS,
            COLUMNS,
        )
        tl.store(partial_ptr + program * D + column, total, mask=column < D)


@triton.jit
def combine_kernel(
    bounds_ptr,
    touched_ptr,
    partial_ptr,
    out_ptr,
    mean_ptr,
    square_ptr,
    experts,
    outputs,
    pairs,
    pieces,
    D,
    LONGEST,
    rate,
    shrink,
    mean_keep,
    mean_take,
    square_keep,
    square_take,
    scale,
    eps,
    STEP: tl.constexpr,
    LISTED: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Program `piece` finishes the long run that starts in it, if one does: at most one can."""
    piece = tl.program_id(0) % pieces
    column = (tl.program_id(0) // pieces) * COLUMNS + tl.arange(0, COLUMNS)
    left = piece * LONGEST
    right = tl.minimum(left + LONGEST, pairs)
    expert = last_at_most(bounds_ptr, experts, right - 1)
    first = tl.load(bounds_ptr + expert)
    last = tl.load(bounds_ptr + expert + 1)
    if (last - first > LONGEST) & (first >= left):
        mask = column < D
        total = tl.load(partial_ptr + (2 * piece + 1) * D + column, mask=mask, other=0.0)
        for other in range(piece + 1, (last + LONGEST - 1) // LONGEST):
            part = partial_ptr + 2 * other * D + column
            total += tl.load(part, mask=mask, other=0.0)
        output = expert
        if LISTED:
            output = last_at_most(touched_ptr, outputs, expert)
        finish_row(
            total,
            out_ptr,
            mean_ptr,
            square_ptr,
            output.to(tl.int64),
            D,
            column,
            rate,
            shrink,
            mean_keep,
            mean_take,
            square_keep,
            square_take,
            scale,
            eps,
            STEP,
        )


def longest_run(pairs: int) -> int:
    """Runs up to this length are one program's; keeps `partial` at 2 · 8,192 rows or fewer."""
    return max(256, triton.next_power_of_2(triton.cdiv(pairs, 8192)))


def table_gradient(
    weights_TP: Tensor, rows_TD: Tensor, order: Tensor, bounds: Tensor, touched: Tensor | None
) -> Tensor:
    """(N, D), or one row per expert in `touched` (ascending, every expert with a pair)."""
    outputs = bounds.numel() - 1 if touched is None else touched.numel()
    out = torch.empty(outputs, rows_TD.shape[1], dtype=rows_TD.dtype, device=rows_TD.device)
    sum_runs(out, weights_TP, rows_TD, order, bounds, touched, out, out, step_scalars(), "none")
    return out


def update_rows(
    table_ND: Tensor,
    weights_TP: Tensor,
    rows_TD: Tensor,
    order: Tensor,
    bounds: Tensor,
    step: AdamWStep | RowAdagradStep,
) -> None:
    """Applies an optimizer's `step` to the rows of `table_gradient` with a pair, as they are summed."""
    if isinstance(step, AdamWStep):
        name, mean, scalars = "adamw", step.mean, step_scalars(step)
    else:
        name, mean, scalars = "row_adagrad", step.square, step_scalars(rate=step.lr, eps=step.eps)
    sum_runs(table_ND, weights_TP, rows_TD, order, bounds, None, mean, step.square, scalars, name)


def sum_runs(
    out: Tensor,
    weights_TP: Tensor,
    rows_TD: Tensor,
    order: Tensor,
    bounds: Tensor,
    touched: Tensor | None,
    mean: Tensor,
    square: Tensor,
    scalars: dict[str, float],
    step: str,
) -> None:
    if out.numel() == 0:
        return
    P, (T, D) = weights_TP.shape[1], rows_TD.shape
    weights_TP, rows_TD = weights_TP.contiguous(), rows_TD.contiguous()
    experts, outputs, pairs = bounds.numel() - 1, out.shape[0], order.numel()
    longest = longest_run(pairs)
    limit = STEP_COLUMNS[step]
    if step != "row_adagrad" and T * D * rows_TD.element_size() > L2_BYTES:
        limit = 128
    columns = column_block(D, limit)
    rows = rows_at_once(columns)
    slices = triton.cdiv(D, columns)
    programs = triton.cdiv(outputs, EXPERTS_PER_PROGRAM)
    tile = {"ROWS": rows, "COLUMNS": columns, "num_warps": warps(rows * columns)}
    finish = {"STEP": step, "LISTED": touched is not None, **scalars}
    names = bounds if touched is None else touched
    with on_device(rows_TD):
        runs_kernel[(slices * programs,)](
            weights_TP,
            rows_TD,
            order,
            bounds,
            names,
            out,
            mean,
            square,
            outputs,
            programs,
            P,
            D,
            longest,
            EXPERTS=EXPERTS_PER_PROGRAM,
            **finish,
            **tile,
        )
        if pairs > longest:
            pieces = triton.cdiv(pairs, longest)
            partial = torch.empty(2 * pieces, D, dtype=torch.float32, device=rows_TD.device)
            pieces_kernel[(slices * 2 * pieces,)](
                weights_TP,
                rows_TD,
                order,
                bounds,
                partial,
                experts,
                pairs,
                2 * pieces,
                P,
                D,
                longest,
                **tile,
            )
            combine_kernel[(slices * pieces,)](
                bounds,
                names,
                partial,
                out,
                mean,
                square,
                experts,
                outputs,
                pairs,
                pieces,
                D,
                longest,
                COLUMNS=columns,
                **finish,
            )


def step_scalars(step: AdamWStep | None = None, **given: float) -> dict[str, float]:
    """What `finish_row` takes; what a step does not use is 0."""
    names = (
        "rate",
        "shrink",
        "mean_keep",
        "mean_take",
        "square_keep",
        "square_take",
        "scale",
        "eps",
    )
    scalars = dict.fromkeys(names, 0.0) | given
    if step is not None:
        first, second = step.betas
        scalars |= {"mean_keep": first, "mean_take": 1 - first}
        scalars |= {"square_keep": second, "square_take": 1 - second}
        scalars |= {"shrink": 1 - step.lr * step.weight_decay}
        scalars |= {"rate": step.rate, "scale": step.scale, "eps": step.eps}
    return scalars
