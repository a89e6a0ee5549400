"""Every gradient of the experts' pairs and tables in one visit per expert.

An expert's rows are read once. For each of its pairs, tokens ascending, score·e·dy is added to the
row of d up while up·dy is taken, and dh·x to the row of d down after it. One share owns an expert,
so the bits depend on neither shares nor threads.
"""

import torch
from torch import Tensor

from peer.activations import activation_slopes
from peer.aten import huge_zeros
from peer.native.routing import experts_of
from peer.native.threads import PAIRS_AHEAD, SHARES, compiled, prefetch, run, share_out

HUGE_PAGES_FROM_BYTES = 4 * 2**20  # memory that fresh pages of 4 KiB would cost more than the sums


def experts_gradients(
    grad_y: Tensor,
    x: Tensor,
    scores: Tensor,
    up: Tensor,
    gate: Tensor | None,
    order: Tensor,
    bounds: Tensor,
    touched: Tensor | None,
    hidden: Tensor,
    gates: Tensor,
    activation: str,
) -> tuple[Tensor, Tensor, Tensor | None, list[Tensor]]:
    """dscore, dh, dgate (T, P), None without a gate; the gradients of up, down and gate."""
    slopes = activation_slopes(hidden, gates, activation)
    gated = gate is not None
    dscores, dhidden = torch.empty_like(scores), torch.empty_like(scores)
    dgates = torch.empty_like(scores) if gated else None
    rows = bounds.shape[0] - 1 if touched is None else touched.shape[0]
    zeroed = rows * x.shape[1] * x.element_size() >= HUGE_PAGES_FROM_BYTES
    make = huge_zeros if zeroed else unwritten
    ddown, dup = (make(rows, x.shape[1], x.dtype) for _ in range(2))
    dgate = make(rows, x.shape[1], x.dtype) if gated else None
    pairs = (scores, *slopes, dscores, dhidden, dgates)
    flat = [None if t is None else t.contiguous().view(-1) for t in pairs]
    routes = order, bounds, touched, scores.shape[1]
    run(visits, SHARES, grad_y, x, up, *routes, *flat, ddown, dup, dgate, zeroed)
    return dscores, dhidden, dgates, [dup, ddown] if dgate is None else [dup, ddown, dgate]


def unwritten(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(rows, columns, dtype=dtype)


@compiled()
def visits(start, threads, shares, *arguments):
    share_out(visit, shares, arguments, start, threads)


@compiled()
def visit(
    share, dy, x, up, order, bounds, touched, P,
    scores, active, slope, gate_slope, dscores, dhidden, dgates, ddown, dup, dgate, zeroed,
):  # fmt: skip
    low, high = experts_of(share, bounds, touched)
    for row in range(low, high):
        name = row
        if touched is not None:
            name = touched[row]
        if not zeroed:
            clear(ddown, row)
            clear(dup, row)
            if dgate is not None:
                clear(dgate, row)
        i, last = bounds[name], bounds[name + 1]
        while i < last:
            count = 4 if i + 4 <= last else 1
            if i + PAIRS_AHEAD + 4 <= order.shape[0]:
                for ahead in range(i + PAIRS_AHEAD, i + PAIRS_AHEAD + count):
                    ask(order[ahead], scores, active, slope, dscores, dhidden)
            p = order[i]
            if count == 1:
                a = dot_and_add(up, name, dy, p // P, scores[p] * active[p], dup, row)
                spread(p, a, scores, active, slope, gate_slope, dscores, dhidden, dgates)
                add(dhidden[p], x, p // P, ddown, row)
                if dgate is not None:
                    add(dgates[p], x, p // P, dgate, row)
            else:
                q, r, s = order[i + 1], order[i + 2], order[i + 3]
                tokens = p // P, q // P, r // P, s // P
                a, b = scores[p] * active[p], scores[q] * active[q]
                c, d = scores[r] * active[r], scores[s] * active[s]
                a, b, c, d = four_dots_and_add(up, name, dy, tokens, (a, b, c, d), dup, row)
                spread(p, a, scores, active, slope, gate_slope, dscores, dhidden, dgates)
                spread(q, b, scores, active, slope, gate_slope, dscores, dhidden, dgates)
                spread(r, c, scores, active, slope, gate_slope, dscores, dhidden, dgates)
                spread(s, d, scores, active, slope, gate_slope, dscores, dhidden, dgates)
                weights = dhidden[p], dhidden[q], dhidden[r], dhidden[s]
                add_four(weights, x, tokens, ddown, row)
                if dgate is not None:
                    weights = dgates[p], dgates[q], dgates[r], dgates[s]
                    add_four(weights, x, tokens, dgate, row)
            i += count


@compiled()
def spread(p, grad, scores, active, slope, gate_slope, dscores, dhidden, dgates):
    """A pair's scalars from `grad`, up·dy."""
    dscores[p] = grad * active[p]
    dhidden[p] = scores[p] * grad * slope[p]
    if dgates is not None:
        dgates[p] = scores[p] * grad * gate_slope[p]


@compiled()
def ask(p, scores, active, slope, dscores, dhidden):
    """For a pair's scalars, which lie anywhere in five megabytes; asking for rows costs time here."""
    prefetch(scores, p)
    prefetch(active, p)
    prefetch(slope, p)
    prefetch(dscores, p)
    prefetch(dhidden, p)


# Rows are named by their place in a table: a view of one would be counted in and out, atomically.


@compiled()
def clear(table, row):
    for d in range(table.shape[1]):
        table[row, d] = 0


@compiled("reassoc", "contract")
def dot_and_add(up, name, dy, t, weight, dup, row):
    """up·dy, while weight·dy is added to the row of d up."""
    dot = up.dtype.type(0)
    for d in range(up.shape[1]):
        dot += up[name, d] * dy[t, d]
        dup[row, d] += weight * dy[t, d]
    return dot


@compiled("reassoc", "contract")
def four_dots_and_add(up, name, dy, tokens, weights, dup, row):
    """The same for four pairs of an expert: its rows go through the registers once."""
    q, r, s, t = tokens
    a = b = c = e = up.dtype.type(0)
    for d in range(up.shape[1]):
        a += up[name, d] * dy[q, d]
        b += up[name, d] * dy[r, d]
        c += up[name, d] * dy[s, d]
        e += up[name, d] * dy[t, d]
        dup[row, d] += (
            weights[0] * dy[q, d]
            + weights[1] * dy[r, d]
            + weights[2] * dy[s, d]
            + weights[3] * dy[t, d]
        )
    return a, b, c, e


@compiled("contract")
def add(weight, x, t, total, row):
    for d in range(x.shape[1]):
        total[row, d] += weight * x[t, d]


@compiled("contract")
def add_four(weights, x, tokens, total, row):
    q, r, s, t = tokens
    for d in range(x.shape[1]):
        total[row, d] += (
            weights[0] * x[q, d]
            + weights[1] * x[r, d]
            + weights[2] * x[s, d]
            + weights[3] * x[t, d]
        )
