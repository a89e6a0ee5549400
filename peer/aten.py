"""The path without a custom kernel: every step is an ATen primitive and none holds (T, P, D).

The weighted sum of rows is `embedding_bag`. The gathered dot product is `embedding_bag`'s gradient
for its weights, or `sampled_addmm`, the sampled entries of x·tableᵀ. A table gradient is again an
`embedding_bag` whose table is the tokens and whose bags are the runs of equal experts in the sorted
ids.
"""

import contextlib
import itertools
import mmap
from collections.abc import Iterator

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor

from peer.optim import AdamWStep, RowAdagradStep
from peer.reference import SCORES, top

ROWS_AT_ONCE = 1024  # score rows held at a time: 1024 × 1024 sub-keys × 4 B = 4 MB
PRUNE_FROM = 512  # sub-keys
NUMPY_THREADS = 2  # one thread of numpy's selection beats topk on so many threads
GRADIENT_ROWS_AT_ONCE = 16384  # few parallel regions, and 16 MB at D = 256 stay in cache
# From here on malloc asks the kernel for every allocation anew (glibc's largest mmap threshold).
HUGE_PAGES_FROM_BYTES = 32 * 2**20


def retrieve(query_THQ: Tensor, sub_keys: Tensor, topk: int, scores: str) -> tuple[Tensor, Tensor]:
    """`peer.reference.retrieve` with partial sorts and a merge over the staircase (a+1)(b+1) ≤ k
    only.

    The pair (a, b) of the two sorted lists has (a+1)(b+1) − 1 pairs that are no smaller, so it can
    be among the k largest only inside the staircase. Scores are computed in float32 for 16-bit
    inputs.
    """
    T, H, _ = query_THQ.shape
    S = sub_keys.shape[-2]
    wide = torch.promote_types(query_THQ.dtype, torch.float32)
    rank = torch.arange(1, topk + 1, device=query_THQ.device)
    a, b = (rank.unsqueeze(-1) * rank <= topk).nonzero(as_tuple=True)
    best_THK = query_THQ.new_empty(T, H, topk, dtype=wide)
    ids_THK = torch.empty(T, H, topk, dtype=torch.int32, device=query_THQ.device)
    query_THcQ = query_THQ.to(wide).unflatten(-1, (2, -1))
    # Heads with the same sub-keys are further rows of one product.
    if sub_keys.dim() == 3:
        sets = sub_keys.unsqueeze(1)
        queries, best, chosen = (
            t.flatten(0, 1).unsqueeze(0) for t in (query_THcQ, best_THK, ids_THK)
        )
    else:
        sets = sub_keys
        queries, best, chosen = (t.transpose(0, 1) for t in (query_THcQ, best_THK, ids_THK))
    rows_at_once = ROWS_AT_ONCE if query_THQ.is_cpu else max(T * H, 1)
    for index, (first_SQ, second_SQ) in enumerate(sets.to(wide).transpose(0, 1)):
        for start in range(0, queries.shape[1], rows_at_once):
            rows = slice(start, start + rows_at_once)
            query_RcQ = queries[index, rows]
            first, row = largest(query_RcQ[:, 0] @ first_SQ.t(), topk)
            second, column = largest(query_RcQ[:, 1] @ second_SQ.t(), topk)
            sums = first.index_select(1, a) + second.index_select(1, b)
            ids = row.index_select(1, a) * S + column.index_select(1, b)
            best[index, rows], found = largest(sums, topk, ids)
            chosen[index, rows] = found.int()
    return SCORES[scores](best_THK), ids_THK


def largest(values: Tensor, topk: int, names: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The `topk` largest of each row and their names (default: positions); ties by the lowest name.

    One more than asked is selected: where no two neighbours of those are equal, no tie decides
    anything. The few other rows are sorted in full.
    """
    best, position = prune(values, topk) if values.shape[1] >= PRUNE_FROM else select(values, topk)
    tied = best[:, 1:] == best[:, :-1]
    best, position = best[:, :topk], position[:, :topk]
    chosen = position if names is None else names.gather(1, position)
    if not tied.any():
        return best, chosen
    rows = tied.any(1).nonzero().squeeze(1)
    values = values.index_select(0, rows)
    if names is None:
        tied_best, tied_chosen = top(values, topk)
    else:
        by_name, position = names.index_select(0, rows).sort(1)
        tied_best, position = top(values.gather(1, position), topk)
        tied_chosen = by_name.gather(1, position)
    return best.index_copy(0, rows, tied_best), chosen.index_copy(0, rows, tied_chosen)


def select(values: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """The `topk` + 1 largest of each row, descending, and their positions."""
    S = values.shape[1]
    fits = values.is_cpu and values.dtype == torch.float32 and topk + 1 < S
    if fits and torch.get_num_threads() <= NUMPY_THREADS and not values.sum().isnan():
        return partition(values, topk + 1)
    return values.topk(min(topk + 1, S), dim=1)


def partition(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`values.topk(count, dim=1)` by one thread of numpy's vectorised selection (AVX2, AVX-512).

    It selects integers: a float's bits in an order of their own above, its position below.
    """
    places = torch.arange(values.shape[1])
    keys = ordered(values.view(torch.int32)).long().bitwise_left_shift_(32).bitwise_or_(places)
    keys.numpy().partition(values.shape[1] - count, axis=1)
    keys = torch.from_numpy(numpy.sort(keys[:, -count:].numpy(), axis=1)).flip(1)
    best = ordered((keys >> 32).int()).view(torch.float32)
    return best, keys.bitwise_and_(2**32 - 1)


def ordered(bits: Tensor) -> Tensor:
    """Integers in the order of the floats with these bits; its own inverse."""
    return ((bits >> 31) & 0x7FFFFFFF).bitwise_xor_(bits)


def prune(values: Tensor, topk: int, blocks: int = 128) -> tuple[Tensor, Tensor]:
    """`select` by blocks: the k largest lie in the k blocks with the largest maxima, short of a
    tie.

    A tie between blocks k and k+1 appears as a tie in the result: its last two entries are made
    equal.
    """
    R, S = values.shape
    if S % blocks or topk >= blocks:
        return select(values, topk)
    maxima, block = select(values.view(R, S // blocks, blocks).amax(1), topk)
    inside = torch.arange(0, S, blocks, device=values.device)
    places = (block[:, :topk].unsqueeze(2) + inside).flatten(1)
    best, position = select(values.gather(1, places), topk)
    ambiguous = maxima[:, topk] == maxima[:, topk - 1]
    best[:, topk] = torch.where(ambiguous, best[:, topk - 1], best[:, topk])
    return best, places.gather(1, position)


def route(ids: Tensor, N: int) -> tuple[Tensor, Tensor]:
    """The pairs' order by expert, tokens ascending within one, int32, and the runs' bounds (N+1,)
    int32.
    """
    flat = ids.flatten()
    if N <= 1 << 15:
        flat = flat.short()  # half the radix passes
    in_order, order = flat.sort(stable=True)
    if ids.is_cuda:  # bincount would wait for the device
        names = torch.arange(
            N + 1, dtype=flat.dtype if N < 1 << 15 else torch.int32, device=ids.device
        )
        return order.int(), torch.searchsorted(in_order, names, out_int32=True)
    bounds = torch.zeros(N + 1, dtype=torch.int32)
    torch.cumsum(torch.bincount(flat, minlength=N), 0, dtype=torch.int32, out=bounds[1:])
    return order.int(), bounds


def gathered_dot(x_TD: Tensor, table_ND: Tensor, ids_TP: Tensor, order: Tensor | None) -> Tensor:
    """dot[t, p] = x[t] · table[ids[t, p]], at least float32.

    In expert order each table row is read once, in sequence, and x stays in cache; the scalars are
    put back.
    """
    T, P = ids_TP.shape
    flat, N = ids_TP.flatten(), table_ND.shape[0]
    wide = torch.promote_types(x_TD.dtype, torch.float32)
    if order is None and x_TD.dtype == wide:
        starts = torch.arange(0, T * P + 1, P, dtype=flat.dtype, device=flat.device)
        pattern = torch.sparse_csr_tensor(
            starts, flat, x_TD.new_zeros(T * P), (T, N), check_invariants=False
        )
        return torch.sparse.sampled_addmm(pattern, x_TD, table_ND.t(), beta=0).values().view(T, P)
    if order is None:
        tokens = torch.arange(T, dtype=flat.dtype, device=flat.device).repeat_interleave(P)
    else:
        flat, tokens = flat.index_select(0, order), tokens_of(order, P).to(flat.dtype)
    starts = torch.arange(0, T * P, P, dtype=flat.dtype, device=flat.device)
    dots = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        x_TD, table_ND, flat, starts, tokens, 0
    ).to(wide)
    if order is not None:
        dots = torch.empty_like(dots).scatter_(0, order.long(), dots)
    return dots.view(T, P)


def tokens_of(order: Tensor, P: int) -> Tensor:
    """The token of each pair; integer division is not vectorised on the CPU, a shift is."""
    return order >> (P.bit_length() - 1) if P.bit_count() == 1 else order // P


def weighted_sum(weights_TP: Tensor, table_ND: Tensor, ids_TP: Tensor) -> Tensor:
    """y[t] = Σ_p weight[t, p] · table[ids[t, p]]."""
    weights_TP = weights_TP.to(table_ND.dtype)
    return F.embedding_bag(ids_TP, table_ND, per_sample_weights=weights_TP, mode="sum")


def table_gradient(
    weights_TP: Tensor, rows_TD: Tensor, order: Tensor, bounds: Tensor, touched: Tensor | None
) -> Tensor:
    """Row n is the sum over the pairs routed to expert n of weight · row of the pair's token.

    All N rows, or those of the experts in `touched`, which must name every expert with a pair.
    """
    N, D = bounds.shape[0] - 1, rows_TD.shape[1]
    tokens = tokens_of(order, weights_TP.shape[1])
    weights = weights_TP.flatten().index_select(0, order).to(rows_TD.dtype)
    length = N if touched is None else touched.shape[0]
    if rows_TD.is_cpu and length * D * rows_TD.element_size() >= HUGE_PAGES_FROM_BYTES:
        return large_table_gradient(weights, rows_TD, tokens, bounds, touched)
    starts = bounds[:-1] if touched is None else bounds.index_select(0, touched)
    return F.embedding_bag(tokens, rows_TD, starts, per_sample_weights=weights, mode="sum")


def large_table_gradient(
    weights: Tensor, rows_TD: Tensor, tokens: Tensor, bounds: Tensor, touched: Tensor | None
) -> Tensor:
    """`table_gradient` in steps that stay in cache, copied to memory that was zero to begin with.

    Only rows with a pair are written.
    """
    N, D = bounds.shape[0] - 1, rows_TD.shape[1]
    names = with_a_pair(bounds) if touched is None else touched
    gradient = huge_zeros(N if touched is None else touched.shape[0], D, rows_TD.dtype)
    for some, part in gradient_parts(weights, rows_TD, tokens, bounds, names):
        gradient[names[some] if touched is None else some] = part
    return gradient


def with_a_pair(bounds: Tensor) -> Tensor:
    return (bounds[1:] > bounds[:-1]).nonzero().squeeze(1)


def gradient_parts(
    weights: Tensor, rows_TD: Tensor, tokens: Tensor, bounds: Tensor, names: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """The gradient of the experts `names`, every expert with a pair, some at a time."""
    starts = bounds.index_select(0, names)
    cuts = [*starts[::GRADIENT_ROWS_AT_ONCE].tolist(), weights.shape[0]]
    for step, (low, high) in enumerate(itertools.pairwise(cuts)):
        some = slice(step * GRADIENT_ROWS_AT_ONCE, (step + 1) * GRADIENT_ROWS_AT_ONCE)
        yield (
            some,
            F.embedding_bag(
                tokens[low:high],
                rows_TD,
                starts[some] - low,
                per_sample_weights=weights[low:high],
                mode="sum",
            ),
        )


def update_rows(
    table_ND: Tensor,
    weights_TP: Tensor,
    rows_TD: Tensor,
    order: Tensor,
    bounds: Tensor,
    step: AdamWStep | RowAdagradStep,
) -> None:
    """Applies an optimizer's `step` to the rows of `table_gradient` with a pair, some at a time."""
    tokens = tokens_of(order, weights_TP.shape[1])
    weights = weights_TP.flatten().index_select(0, order).to(rows_TD.dtype)
    names = with_a_pair(bounds)
    for some, part in gradient_parts(weights, rows_TD, tokens, bounds, names):
        step.apply(table_ND, names[some], part)


def huge_zeros(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Zeros on the CPU that the kernel provides on first touch, in huge pages where it can.

    Memory of this size is fresh in every step, and a fault per 4 KiB costs more than the sums.
    """
    size = rows * columns * dtype.itemsize
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(rows, columns, dtype=dtype)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel built without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype).view(rows, columns)
