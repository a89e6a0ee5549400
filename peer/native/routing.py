"""The pairs in expert order by counting, and the experts that a share of the pairs belongs to."""

import torch
from torch import Tensor

from peer.native.threads import SHARES, array, compiled


def route(ids: Tensor, N: int) -> tuple[Tensor, Tensor]:
    """As `peer.aten.route`: order (T·P,), tokens ascending within an expert, and bounds (N+1,)."""
    order = torch.empty(ids.numel(), dtype=torch.int32)
    bounds = torch.empty(N + 1, dtype=torch.int32)
    count(*(array(t) for t in (ids.contiguous().view(-1), order, bounds)))
    return order, bounds


@compiled()
def count(ids, order, bounds):
    bounds[:] = 0
    for name in ids:
        bounds[name + 1] += 1
    for n in range(1, bounds.shape[0]):
        bounds[n] += bounds[n - 1]
    # bounds[n] walks from the start of n's run to its end, where n + 1's run starts.
    for pair in range(ids.shape[0]):
        name = ids[pair]
        order[bounds[name]] = pair
        bounds[name] += 1
    for n in range(bounds.shape[0] - 1, 0, -1):
        bounds[n] = bounds[n - 1]
    bounds[0] = 0


@compiled()
def experts_of(share, bounds, touched):
    """The rows of a gradient, of all experts or of `touched`, that a share of the pairs owns."""
    pairs = bounds[-1]
    low = first_from(pairs * share // SHARES, bounds, touched) if share else 0
    if share < SHARES - 1:
        return low, first_from(pairs * (share + 1) // SHARES, bounds, touched)
    return low, rows_of(bounds, touched)


@compiled()
def rows_of(bounds, touched):
    if touched is None:
        return bounds.shape[0] - 1
    return touched.shape[0]


@compiled()
def first_from(pair, bounds, touched):
    """The first row whose expert's run starts at `pair` or after."""
    low, high = 0, rows_of(bounds, touched)
    while low < high:
        middle = (low + high) // 2
        name = middle
        if touched is not None:
            name = touched[middle]
        if bounds[name] < pair:
            low = middle + 1
        else:
            high = middle
    return low
