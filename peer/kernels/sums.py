"""y[t] = Σ_p weight[t, p] · table[ids[t, p]], and with a second pair the same added: the bag, and the
gradient of tokens.

One program owns one token (and one of SPLITS shares of its pairs) at full width, walks its pairs
UNROLL rows at a time and keeps the sum in float32 registers. Token-major, so a row is read once per
pair: what is scattered are reads, never vectors. Few tokens share their pairs among programs as in
`peer.kernels.fused`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from peer.kernels import launch, tuned
from peer.kernels.fused import add_shares_kernel


@triton.jit(do_not_specialize=["SHARE", "SPLITS"])
def weighted_sum_kernel(
    weights_ptr,
    table_ptr,
    more_weights_ptr,
    more_table_ptr,
    ids_ptr,
    out_ptr,
    SHARE,
    SPLITS,
    P: tl.constexpr,
    D: tl.constexpr,
    MORE: tl.constexpr,
    UNROLL: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    program = tl.program_id(0)
    token = (program // SPLITS).to(tl.int64)
    first = (program % SPLITS) * SHARE
    last = tl.minimum(first + SHARE, P)
    column = tl.arange(0, COLUMNS)
    inside = column < D
    total = tl.zeros((COLUMNS,), tl.float32)
    for start in range(first, last, UNROLL):
        for i in tl.static_range(UNROLL):
            pair = token * P + start + i
            place = tl.load(ids_ptr + pair).to(tl.int64) * D + column
            row = tl.load(table_ptr + place, mask=inside, other=0.0).to(tl.float32)
            total += tl.load(weights_ptr + pair).to(tl.float32) * row
            if MORE:
                row = tl.load(more_table_ptr + place, mask=inside, other=0.0).to(tl.float32)
                total += tl.load(more_weights_ptr + pair).to(tl.float32) * row
    place = program.to(tl.int64) * D + column
    tl.store(out_ptr + place, total.to(out_ptr.dtype.element_ty), mask=inside)


def weighted_sum(
    weights_TP: Tensor,
    table_ND: Tensor,
    ids_TP: Tensor,
    more: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """(T, D) in the table's dtype; weights in any floating dtype. `more`: further weights and table."""
    (T, P), D = ids_TP.shape, table_ND.shape[1]
    y_TD = torch.empty(T, D, dtype=table_ND.dtype, device=table_ND.device)
    if y_TD.numel() == 0 or P == 0:
        return y_TD.zero_()
    weights_TP, ids_TP = weights_TP.contiguous(), ids_TP.contiguous()
    more_weights_TP, more_table_ND = (weights_TP, table_ND) if more is None else more
    tile = launch.sums(D, P, tuned.settings("weighted_sum_kernel", table_ND, T))
    share, parts = launch.shares(T, P, tile["UNROLL"])
    out = y_TD if parts == 1 else y_TD.new_empty(T, parts, D, dtype=torch.float32)
    with launch.on_device(table_ND):
        weighted_sum_kernel[(T * parts,)](
            weights_TP,
            table_ND,
            more_weights_TP,
            more_table_ND,
            ids_TP,
            out,
            share,
            parts,
            P=P,
            D=D,
            MORE=more is not None,
            **tile,
        )
        if parts > 1:
            add_shares_kernel[(T,)](out, y_TD, parts, D=D, **launch.row_of(D))
    return y_TD
