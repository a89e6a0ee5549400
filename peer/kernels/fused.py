"""y[t] = Σ_p score · σ(down_p·x) · up_p in one pass, token-major; with a gate σ(gate_p·x) ·
(down_p·x).

One program owns one token (and one of SPLITS shares of its pairs) at full width, one warp up to
1,024 columns, so that a dot product ends within the warp that needs it and the loop has no barrier.
It walks its pairs UNROLL at a time: the rows of down, up and gate do not depend on one another and
are in flight together, up before the dot that scales it is known. Sums are float32 in registers;
the pre-activations leave as float32 scalars for backward, nothing of size (T, P, D) exists.

Decoding has too few tokens to fill a GPU: the pairs of a token are then shared by SPLITS programs,
each writing a float32 partial sum, and a second kernel adds these in order. SPLITS depends on T
alone, so a result can be repeated.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from peer.kernels import launch, tuned


@triton.jit
def activate(z, ACTIVATION: tl.constexpr):
    if ACTIVATION == "gelu":
        return 0.5 * z * (1.0 + tl.math.erf(z * 0.7071067811865476))
    if ACTIVATION == "silu":
        return z / (1.0 + tl.exp(-z))
    if ACTIVATION == "none":
        return z
    return tl.where(z < 0.0, 0.0, z)


@triton.jit(do_not_specialize=["SHARE", "SPLITS"])
def fused_experts_kernel(
    x_ptr,
    ids_ptr,
    scores_ptr,
    down_ptr,
    up_ptr,
    gate_ptr,
    out_ptr,
    hidden_ptr,
    gates_ptr,
    SHARE,
    SPLITS,
    P: tl.constexpr,
    D: tl.constexpr,
    ACTIVATION: tl.constexpr,
    GATED: tl.constexpr,
    UNROLL: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    program = tl.program_id(0)
    token = (program // SPLITS).to(tl.int64)
    first = (program % SPLITS) * SHARE
    last = tl.minimum(first + SHARE, P)
    column = tl.arange(0, COLUMNS)
    inside = column < D
    x = tl.load(x_ptr + token * D + column, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((COLUMNS,), tl.float32)
    for start in range(first, last, UNROLL):
        for i in tl.static_range(UNROLL):
            pair = token * P + start + i
            row = tl.load(ids_ptr + pair).to(tl.int64) * D + column
            score = tl.load(scores_ptr + pair).to(tl.float32)
            down = tl.load(down_ptr + row, mask=inside, other=0.0)
            up = tl.load(up_ptr + row, mask=inside, other=0.0)
            hidden = tl.sum(down.to(tl.float32) * x, axis=0)
            tl.store(hidden_ptr + pair, hidden)
            if GATED:
                gate = tl.load(gate_ptr + row, mask=inside, other=0.0)
                gates = tl.sum(gate.to(tl.float32) * x, axis=0)
                tl.store(gates_ptr + pair, gates)
                active = hidden * activate(gates, ACTIVATION)
            else:
                active = activate(hidden, ACTIVATION)
            total += (score * active) * up.to(tl.float32)
    place = program.to(tl.int64) * D + column
    tl.store(out_ptr + place, total.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["SPLITS"])
def add_shares_kernel(shares_ptr, out_ptr, SPLITS, D: tl.constexpr, COLUMNS: tl.constexpr):
    """y[t] = Σ of the token's SPLITS partial sums, from the first to the last."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    inside = column < D
    total = tl.zeros((COLUMNS,), tl.float32)
    for share in range(SPLITS):
        place = (token * SPLITS + share) * D + column
        total += tl.load(shares_ptr + place, mask=inside, other=0.0)
    tl.store(out_ptr + token * D + column, total.to(out_ptr.dtype.element_ty), mask=inside)


def fused_experts(
    x_TD: Tensor,
    ids_TP: Tensor,
    scores_TP: Tensor,
    down_ND: Tensor,
    up_ND: Tensor,
    gate_ND: Tensor | None,
    activation: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns y (T, D) and the float32 pre-activations down·x and gate·x (T, P), the latter empty
    without gate.
    """
    (T, P), D = ids_TP.shape, x_TD.shape[1]
    x_TD, ids_TP, scores_TP = x_TD.contiguous(), ids_TP.contiguous(), scores_TP.contiguous()
    hidden_TP = torch.empty(T, P, dtype=torch.float32, device=x_TD.device)
    gates_TP = torch.empty_like(hidden_TP) if gate_ND is not None else hidden_TP.new_empty(0)
    y_TD = torch.empty_like(x_TD)
    if y_TD.numel() == 0 or P == 0:
        return y_TD.zero_(), hidden_TP, gates_TP
    tile = launch.fused(D, P, tuned.settings("fused_experts_kernel", x_TD, T))
    share, parts = launch.shares(T, P, tile["UNROLL"])
    out = y_TD if parts == 1 else x_TD.new_empty(T, parts, D, dtype=torch.float32)
    with launch.on_device(x_TD):
        fused_experts_kernel[(T * parts,)](
            x_TD,
            ids_TP,
            scores_TP,
            down_ND,
            up_ND,
            gate_ND if gate_ND is not None else down_ND,
            out,
            hidden_TP,
            gates_TP,
            share,
            parts,
            P=P,
            D=D,
            ACTIVATION=activation,
            GATED=gate_ND is not None,
            **tile,
        )
        if parts > 1:
            add_shares_kernel[(T,)](out, y_TD, parts, D=D, **launch.row_of(D))
    return y_TD, hidden_TP, gates_TP
