"""y[t] = Σ_p weight[t, p] · table[ids[t, p]]: the bag, the hybrid's second stage and the gradient
of tokens.

One program owns one token and COLUMNS columns of its output, walks the token's P pairs in tiles of
ROWS gathered rows and keeps the sum in float32 registers; each output is written once. Token-major,
so a row is read once per pair: what is scattered are reads, never vectors.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from peer.kernels.launch import column_block, on_device, rows_at_once, warps


@triton.jit
def weighted_sum_kernel(
    weights_ptr,
    table_ptr,
    ids_ptr,
    out_ptr,
    P,
    D,
    SLICES,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    token = (tl.program_id(0) // SLICES).to(tl.int64)
    column = (tl.program_id(0) % SLICES) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < D
    total = tl.zeros((COLUMNS,), tl.float32)
    for start in range(0, P, ROWS):
        place = start + tl.arange(0, ROWS)
        valid = place < P
        expert = tl.load(ids_ptr + token * P + place, mask=valid, other=0).to(tl.int64)
        weight = tl.load(weights_ptr + token * P + place, mask=valid, other=0.0).to(tl.float32)
        mask = valid[:, None] & inside[None, :]
        row = tl.load(table_ptr + expert[:, None] * D + column[None, :], mask=mask, other=0.0)
        total += tl.sum(weight[:, None] * row.to(tl.float32), axis=0)
    tl.store(out_ptr + token * D + column, total.to(out_ptr.dtype.element_ty), mask=inside)


def weighted_sum(weights_TP: Tensor, table_ND: Tensor, ids_TP: Tensor) -> Tensor:
    """(T, D) in the table's dtype; weights in any floating dtype."""
    T, P = ids_TP.shape
    D = table_ND.shape[1]
    out_TD = torch.empty(T, D, dtype=table_ND.dtype, device=table_ND.device)
    if out_TD.numel() == 0:
        return out_TD
    columns = column_block(D, limit=512)
    rows = rows_at_once(columns)
    slices = triton.cdiv(D, columns)
    with on_device(table_ND):
        weighted_sum_kernel[(T * slices,)](
            weights_TP.contiguous(),
            table_ND,
            ids_TP.contiguous(),
            out_TD,
            P,
            D,
            slices,
            ROWS=rows,
            COLUMNS=columns,
            num_warps=warps(rows * columns),
        )
    return out_TD
