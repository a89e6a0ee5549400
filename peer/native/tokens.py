"""The forward of few tokens: two passes over (T, P) rows, without a sort or sparse matrices."""

import numba
import torch
from torch import Tensor

FEW_TOKENS = 16


def few_tokens(x, ids, scores, down, up, gate, activate) -> tuple[Tensor, Tensor, Tensor]:
    """y (T, D), down·x and gate·x (T, P), the last empty without a gate."""
    hidden = dots_of(x, ids, down)
    gates = hidden.new_empty(0) if gate is None else dots_of(x, ids, gate)
    weights, y = scores * activate(hidden, gates), torch.empty_like(x)
    sums(*(t.detach().numpy() for t in (ids, weights, up, y)))
    return y, hidden, gates


def dots_of(x: Tensor, ids: Tensor, table: Tensor) -> Tensor:
    found = torch.empty(ids.shape, dtype=x.dtype)
    dots(*(t.detach().numpy() for t in (x, ids, table, found)))
    return found


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def dots(x, ids, table, found):
    for t in range(ids.shape[0]):
        for p in range(ids.shape[1]):
            row, token = table[ids[t, p]], x[t]
            dot = row[0] * token[0]
            for d in range(1, x.shape[1]):
                dot += row[d] * token[d]
            found[t, p] = dot


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def sums(ids, weights, table, y):
    for t in range(ids.shape[0]):
        total = y[t]
        total[:] = 0
        for p in range(ids.shape[1]):
            row, weight = table[ids[t, p]], weights[t, p]
            for d in range(y.shape[1]):
                total[d] += weight * row[d]
