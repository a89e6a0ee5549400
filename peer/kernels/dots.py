"""dot[t, p] = x[t] · table[ids[t, p]], a scalar per (token, expert) pair.

One program takes PAIRS consecutive pairs of a list and loads their table rows and token rows as two
independent tiles, so that 2·PAIRS rows are in flight. The list is either the pairs as they come,
token by token: x is read once and every table row once per pair. Or it is the pairs sorted by
expert: neighbours share the table row, which then comes from memory about once per distinct expert,
and x comes from L2. Only the scalar is scattered back to its pair, so skewed routing changes
nothing: each program has the same work. No pair is written twice and no sum crosses a program,
    hence no atomics and bit-equal repeats.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from peer.kernels.launch import column_block, on_device, rows_at_once, warps


@triton.jit
def gathered_dot_kernel(
    x_ptr,
    table_ptr,
    ids_ptr,
    order_ptr,
    out_ptr,
    pairs,
    P,
    D,
    SORTED: tl.constexpr,
    PAIRS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    valid = place < pairs
    pair = place
    if SORTED:
        pair = tl.load(order_ptr + place, mask=valid, other=0).to(tl.int64)
    expert = tl.load(ids_ptr + pair, mask=valid, other=0).to(tl.int64)
    token = pair // P
    dot = tl.zeros((PAIRS,), tl.float32)
    for start in range(0, D, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        mask = valid[:, None] & (column < D)[None, :]
        row = tl.load(table_ptr + expert[:, None] * D + column[None, :], mask=mask, other=0.0)
        x = tl.load(x_ptr + token[:, None] * D + column[None, :], mask=mask, other=0.0)
        dot += tl.sum(row.to(tl.float32) * x.to(tl.float32), axis=1)
    tl.store(out_ptr + pair, dot, mask=valid)


def gathered_dot(x_TD: Tensor, table_ND: Tensor, ids_TP: Tensor, order: Tensor | None) -> Tensor:
    """(T, P) float32; `order` is the pairs' order by expert, or None to go token by token."""
    D = x_TD.shape[1]
    out_TP = torch.empty(ids_TP.shape, dtype=torch.float32, device=x_TD.device)
    pairs = ids_TP.numel()
    if pairs == 0:
        return out_TP
    columns = column_block(D, limit=512)
    rows = rows_at_once(columns)
    with on_device(x_TD):
        gathered_dot_kernel[(triton.cdiv(pairs, rows),)](
            x_TD,
            table_ND,
            ids_TP,
            ids_TP if order is None else order,
            out_TP,
            pairs,
            ids_TP.shape[1],
            D,
            SORTED=order is not None,
            PAIRS=rows,
            COLUMNS=columns,
            num_warps=warps(2 * rows * columns),  # two tiles
        )
    return out_TP
