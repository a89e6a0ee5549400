"""dot[t, p] = x[t] · table[ids[t, p]]: one product per pair, summed in lanes."""

import torch
from torch import Tensor

from peer.native.threads import PAIRS_AHEAD, SHARES, compiled, prefetch, run, share_out


def gathered_dot(x_TD: Tensor, table_ND: Tensor, ids_TP: Tensor, order: Tensor | None) -> Tensor:
    """In the order of experts where that is at hand: a row is read once for all of its pairs."""
    found = torch.empty(ids_TP.shape, dtype=x_TD.dtype)
    tensors = x_TD, table_ND, ids_TP.view(-1), found.view(-1)
    if order is None:
        run(dots_by_token, SHARES, *tensors, ids_TP.shape[1])
    else:
        run(dots_by_expert, SHARES, *tensors, ids_TP.shape[1], order)
    return found


@compiled("reassoc", "contract")
def dot(table, row, x, t):
    total = x.dtype.type(0)
    for d in range(x.shape[1]):
        total += table[row, d] * x[t, d]
    return total


@compiled()
def by_token(share, x, table, ids, found, P):
    pairs = ids.shape[0]
    for p in range(pairs * share // SHARES, pairs * (share + 1) // SHARES):
        if p + 2 < pairs:
            prefetch(table, ids[p + 2])
        found[p] = dot(table, ids[p], x, p // P)


@compiled()
def by_expert(share, x, table, ids, found, P, order):
    pairs = ids.shape[0]
    for i in range(pairs * share // SHARES, pairs * (share + 1) // SHARES):
        if i + PAIRS_AHEAD < pairs:
            prefetch(ids, order[i + PAIRS_AHEAD])
            prefetch(found, order[i + PAIRS_AHEAD])
        if i + 1 < pairs:
            prefetch(x, order[i + 1] // P)
        p = order[i]
        found[p] = dot(table, ids[p], x, p // P)


@compiled()
def dots_by_token(start, threads, shares, *arguments):
    share_out(by_token, shares, arguments, start, threads)


@compiled()
def dots_by_expert(start, threads, shares, *arguments):
    share_out(by_expert, shares, arguments, start, threads)
