"""Pair scalars and every table's gradient in one visit per expert.

An expert's rows are read once: for each of its pairs, tokens ascending, a = up·dy, then dh·x and
score·e·dy are added to the rows of the gradients. One thread owns an expert, so the bits do not
depend on how many there are.
"""

import numba
import torch
from torch import Tensor

from peer.aten import HUGE_PAGES_FROM_BYTES, huge_zeros, with_a_pair
from peer.native.threads import cuts, in_threads


def backward_in_one_visit(
    grad_y: Tensor,
    x: Tensor,
    scores: Tensor,
    up: Tensor,
    order: Tensor,
    bounds: Tensor,
    touched: Tensor | None,
    slopes: tuple[Tensor, Tensor, Tensor | None],
) -> tuple[Tensor, Tensor, Tensor | None, list[Tensor]]:
    """dscore, dh, dgate (T, P) and the gradients of down, up and, with a gate, gate.

    `slopes`, (T, P) each: what an expert's activation is, and its derivatives by h and by the gate.
    """
    glu = slopes[2] is not None
    names = with_a_pair(bounds) if touched is None else touched.long()
    rows = bounds.shape[0] - 1 if touched is None else touched.shape[0]
    tables = [zeros(rows, x.shape[1], x.dtype) for _ in range(3 if glu else 2)]
    pairs = [torch.empty_like(scores) for _ in range(3 if glu else 2)]
    active, slope, gate_slope = (t.contiguous() for t in (*slopes[:2], slopes[2 if glu else 1]))
    tensors = (names, order, bounds, grad_y, x, scores.flatten(), up)
    tensors += (active.flatten(), slope.flatten(), gate_slope.flatten())
    arrays = [t.detach().numpy() for t in tensors]
    results = [t.detach().view(-1).numpy() for t in (*pairs, pairs[-1])][:3]
    sums = [t.detach().numpy() for t in (*tables, tables[-1])][:3]
    compact, P = touched is not None, scores.shape[1]
    parts = cuts(bounds, names)
    in_threads(lambda low, high: visit(low, high, glu, compact, P, *arrays, *results, *sums), parts)
    return pairs[0], pairs[1], pairs[2] if glu else None, tables


def zeros(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Memory that was zero to begin with; only rows with a pair are written."""
    if rows * columns * dtype.itemsize >= HUGE_PAGES_FROM_BYTES:
        return huge_zeros(rows, columns, dtype)
    return torch.zeros(rows, columns, dtype=dtype)


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def visit(
    low, high, glu, compact, P, names, order, bounds, dy, x, scores, up,
    active, slope, gate_slope, found, dhidden, dgates, ddown, dup, dgate,
):  # fmt: skip
    """Experts names[low:high]; fastmath only lets a dot be summed in lanes."""
    D = x.shape[1]
    for i in range(low, high):
        name = names[i]
        row = i if compact else name
        u, du, dv, dg = up[name], ddown[row], dup[row], dgate[row]
        for at in range(bounds[name], bounds[name + 1]):
            p = order[at]
            t = p // P
            g, token = dy[t], x[t]
            a = u[0] * g[0]
            for d in range(1, D):
                a += u[d] * g[d]
            found[p] = a * active[p]
            dh = scores[p] * a * slope[p]
            dhidden[p] = dh
            weight = scores[p] * active[p]
            for d in range(D):
                du[d] += dh * token[d]
                dv[d] += weight * g[d]
            if glu:
                gated = scores[p] * a * gate_slope[p]
                dgates[p] = gated
                for d in range(D):
                    dg[d] += gated * token[d]
