"""y[t] = Σ_p score · σ(down_p·x) · up_p in one pass, token-major; with a gate σ(gate_p·x) ·
(down_p·x).

One program owns one token (and one of SPLITS shares of its pairs) at full width, so that a dot
product ends in the program that needs it. It walks its pairs in tiles of ROWS: the rows of down, up
and gate do not depend on one another and are loaded together, up before the dot that scales it is
known. Sums are float32 in registers; the pre-activations leave as float32 scalars for backward,
nothing of size (T, P, D) exists.

Decoding has too few tokens to fill a GPU: the pairs of a token are then shared by SPLITS programs,
each writing a float32 partial sum, and the partial sums are added in order. SPLITS depends on T
alone, so a result can be repeated.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from peer.kernels.launch import on_device, rows_at_once, warps

PROGRAMS_WANTED = 512  # about four per multiprocessor of a large GPU


@triton.jit
def activate(z, ACTIVATION: tl.constexpr):
    if ACTIVATION == "gelu":
        return 0.5 * z * (1.0 + tl.math.erf(z * 0.7071067811865476))
    if ACTIVATION == "silu":
        return z / (1.0 + tl.exp(-z))
    if ACTIVATION == "none":
        return z
    return tl.where(z < 0.0, 0.0, z)


@triton.jit
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
    P,
    D,
    SHARE,
    SPLITS,
    ACTIVATION: tl.constexpr,
    GATED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    token = program // SPLITS
    first = (program % SPLITS) * SHARE
    last = tl.minimum(first + SHARE, P)
    column = tl.arange(0, COLUMNS)
    inside = column < D
    x = tl.load(x_ptr + token * D + column, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((COLUMNS,), tl.float32)
    for start in range(first, last, ROWS):
        place = start + tl.arange(0, ROWS)
        valid = place < last
        pair = token * P + place
        expert = tl.load(ids_ptr + pair, mask=valid, other=0).to(tl.int64)
        score = tl.load(scores_ptr + pair, mask=valid, other=0.0).to(tl.float32)
        address = expert[:, None] * D + column[None, :]
        mask = valid[:, None] & inside[None, :]
        down = tl.load(down_ptr + address, mask=mask, other=0.0)
        up = tl.load(up_ptr + address, mask=mask, other=0.0)
        hidden = tl.sum(down.to(tl.float32) * x[None, :], axis=1)
        tl.store(hidden_ptr + pair, hidden, mask=valid)
        if GATED:
            gate = tl.load(gate_ptr + address, mask=mask, other=0.0)
            gates = tl.sum(gate.to(tl.float32) * x[None, :], axis=1)
            tl.store(gates_ptr + pair, gates, mask=valid)
            active = hidden * activate(gates, ACTIVATION)
        else:
            active = activate(hidden, ACTIVATION)
        weight = tl.where(valid, score * active, 0.0)
        total += tl.sum(weight[:, None] * up.to(tl.float32), axis=0)
    tl.store(out_ptr + program * D + column, total.to(out_ptr.dtype.element_ty), mask=inside)


def splits(T: int, P: int, rows: int) -> int:
    """Programs per token: enough to fill the GPU, none with less than one tile of pairs."""
    return max(1, min(triton.cdiv(PROGRAMS_WANTED, T), triton.cdiv(P, rows)))


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
    columns = triton.next_power_of_2(D)
    rows = rows_at_once(columns)
    parts = splits(max(T, 1), P, rows)
    share = triton.cdiv(triton.cdiv(P, parts), rows) * rows
    out = torch.empty(
        T, parts, D, dtype=torch.float32 if parts > 1 else x_TD.dtype, device=x_TD.device
    )
    if out.numel() > 0:
        with on_device(x_TD):
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
                P,
                D,
                share,
                parts,
                ACTIVATION=activation,
                GATED=gate_ND is not None,
                ROWS=rows,
                COLUMNS=columns,
                num_warps=warps(rows * columns),
            )
    return (out[:, 0] if parts == 1 else out.sum(1).to(x_TD.dtype)), hidden_TP, gates_TP
