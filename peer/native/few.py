"""A whole layer for few tokens in one call: one share per head, no sort and no intermediate tensor.

A head's query, its products, its choice and the sum over its experts stay in one thread's cache; the
heads' sums are added in order. Tensors come as addresses, since making an array of each would take
longer than the arithmetic of one token.
"""

import math

import numpy
import torch
from torch import Tensor

from peer.native.dots import dot
from peer.native.selection import SCORES, choose_rows, scratch
from peer.native.threads import address_of, carray, compiled, openmp, prefetch, share_out

NORMS = (None, "batch", "layer")
ACTIVATIONS = ("gelu", "relu", "silu", "none")
LIKE = {torch.float32: numpy.float32(0), torch.float64: numpy.float64(0)}
THREADS_FROM_NUMBERS = 2**16  # read from weights: a thread takes longer to wake than to read fewer


def few_tokens(
    x_TD: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    norm: str | None,
    norm_tensors: list[Tensor],
    eps: float,
    sub_keys: Tensor,
    down_ND: Tensor,
    up_ND: Tensor,
    gate_ND: Tensor | None,
    topk: int,
    scores: str,
    activation: str,
) -> Tensor:
    """y (T, D) of contiguous tensors; `norm_tensors`: weight, bias and, for "batch", mean, variance."""
    (T, D), (S, Q) = x_TD.shape, sub_keys.shape[-2:]
    H = weight.shape[0] // (2 * Q)
    y_TD = torch.empty(T, D, dtype=x_TD.dtype)
    sums_HTD = torch.empty(H, T, D, dtype=x_TD.dtype)
    addresses = [0 if t is None else t.data_ptr() for t in (x_TD, weight, bias)]
    addresses += [t.data_ptr() for t in norm_tensors] + [0] * (4 - len(norm_tensors))
    addresses += [0 if t is None else t.data_ptr() for t in (sub_keys, down_ND, up_ND, gate_ND)]
    threads = min(torch.get_num_threads(), H) if weight.numel() >= THREADS_FROM_NUMBERS else 1
    layer(
        openmp() if threads > 1 else 0, threads, H, y_TD.data_ptr(), sums_HTD.data_ptr(),
        LIKE[x_TD.dtype], *addresses, T, D, S, Q, down_ND.shape[0], sub_keys.dim() == 4, topk,
        NORMS.index(norm), eps, SCORES.index(scores), ACTIVATIONS.index(activation),
    )  # fmt: skip
    return y_TD


@compiled()
def layer(start, threads, H, y, sums, like, *arguments):
    share_out(head, H, (H, sums, like, *arguments), start, threads)
    T, D = arguments[11], arguments[12]
    y_TD = carray(address_of(y, like), (T, D))
    sums_HTD = carray(address_of(sums, like), (H, T, D))
    for t in range(T):
        for d in range(D):
            y_TD[t, d] = sums_HTD[0, t, d]
        for h in range(1, H):
            for d in range(D):
                y_TD[t, d] += sums_HTD[h, t, d]


@compiled()
def head(
    h, H, sums, like, x, weight, bias, norm_weight, norm_bias, mean, variance, sub_keys, down, up,
    gate, T, D, S, Q, N, own_keys, K, norm, eps, nonlinearity, activation,
):  # fmt: skip
    x_TD = carray(address_of(x, like), (T, D))
    weight_CD = carray(address_of(weight, like), (H * 2 * Q, D))
    query = numpy.empty((2 * T, Q), x_TD.dtype)  # a token's two halves are neighbours
    for j in range(2 * Q):
        for t in range(T):
            query[2 * t + j // Q, j % Q] = dot(weight_CD, h * 2 * Q + j, x_TD, t)
    if bias:
        shift = carray(address_of(bias, like), (H, 2, Q))
        for i in range(2 * T):
            for q in range(Q):
                query[i, q] += shift[h, i % 2, q]
    if norm == 1:
        scale = carray(address_of(norm_weight, like), (H, 2, Q))
        shift = carray(address_of(norm_bias, like), (H, 2, Q))
        means = carray(address_of(mean, like), (H, 2, Q))
        variances = carray(address_of(variance, like), (H, 2, Q))
        for i in range(2 * T):
            for q in range(Q):
                centred = query[i, q] - means[h, i % 2, q]
                spread = math.sqrt(variances[h, i % 2, q] + eps)
                query[i, q] = centred / spread * scale[h, i % 2, q] + shift[h, i % 2, q]
    if norm == 2:
        scale = carray(address_of(norm_weight, like), (2, Q))
        shift = carray(address_of(norm_bias, like), (2, Q))
        for t in range(T):
            normalize(query, 2 * t, eps)
            for i in range(2):
                for q in range(Q):
                    query[2 * t + i, q] = query[2 * t + i, q] * scale[i, q] + shift[i, q]
    sets = H if own_keys else 1
    keys = carray(address_of(sub_keys, like), (2 * sets * S, Q))
    products = numpy.empty((2, T, S), x_TD.dtype)
    for half in range(2):
        first = (half * sets + (h if own_keys else 0)) * S
        for s in range(S):
            for t in range(T):
                products[half, t, s] = dot(keys, first + s, query, 2 * t + half)
    scores, ids = numpy.empty(K, x_TD.dtype), numpy.empty(K, numpy.int64)
    room = scratch(products, K)
    sums_HTD = carray(address_of(sums, like), (H, T, D))
    down_ND = carray(address_of(down, like), (N, D))
    up_ND = carray(address_of(up, like), (N, D))
    gate_ND = carray(address_of(gate, like), (N if gate else 0, D))
    for t in range(T):
        choose_rows(products, t, t + 1, scores, ids, 0, K, K, nonlinearity, *room)
        for k in range(K):
            prefetch(down_ND, ids[k])
            prefetch(up_ND, ids[k])
        for d in range(D):
            sums_HTD[h, t, d] = 0
        for k in range(K):
            hidden = dot(down_ND, ids[k], x_TD, t)
            if gate:
                hidden *= active(dot(gate_ND, ids[k], x_TD, t), activation)
            else:
                hidden = active(hidden, activation)
            add(scores[k] * hidden, up_ND, ids[k], sums_HTD, h, t)


@compiled()
def normalize(query, first, eps):
    """Both halves of a query to mean 0 and variance 1."""
    size = 2 * query.shape[1]
    mean = square = query.dtype.type(0)
    for i in range(first, first + 2):
        for q in range(query.shape[1]):
            mean += query[i, q] / size
    for i in range(first, first + 2):
        for q in range(query.shape[1]):
            square += (query[i, q] - mean) ** 2 / size
    for i in range(first, first + 2):
        for q in range(query.shape[1]):
            query[i, q] = (query[i, q] - mean) / math.sqrt(square + eps)


@compiled()
def active(value, activation):
    if activation == 0:
        return value * (1 + math.erf(value * math.sqrt(0.5))) / 2
    if activation == 1:
        return value if not value < 0 else value * 0
    if activation == 2:
        return value / (1 + math.exp(-value))
    return value


@compiled("contract")
def add(weight, up, row, sums, h, t):
    for d in range(up.shape[1]):
        sums[h, t, d] += weight * up[row, d]
