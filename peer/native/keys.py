"""The gradients of queries and of sub-keys that each head has for itself, in one pass over the pairs.

A share owns half of one head: its sub-keys and their gradient stay in cache, tokens ascending, so the
bits depend on neither shares nor threads, and nothing is sorted.
"""

import numpy
import torch
from torch import Tensor

from peer.native.lanes import add_scaled
from peer.native.threads import compiled, run, share_out


def own_keys_gradients(
    weights_THK: Tensor, ids_THK: Tensor, query_THQ: Tensor, sub_keys: Tensor
) -> tuple[Tensor, Tensor]:
    """From the gradients of matches: dquery (T, H, 2·Q), dkeys (2, H, S, Q)."""
    (T, H, K), Q = ids_THK.shape, sub_keys.shape[3]
    dquery = torch.empty(query_THQ.shape, dtype=query_THQ.dtype)
    dkeys = torch.empty(sub_keys.shape, dtype=sub_keys.dtype)
    tensors = weights_THK, ids_THK, query_THQ, sub_keys, dquery, dkeys
    flat = (tensor.contiguous().view(-1) for tensor in tensors)
    run(halves, 2 * H, *flat, T, H, K, sub_keys.shape[2], Q)
    return dquery, dkeys


@compiled()
def halves(start, threads, shares, *arguments):
    share_out(half_of_head, shares, arguments, start, threads)


@compiled()
def half_of_head(share, weights, ids, query, keys, dquery, dkeys, T, H, K, S, Q):
    h, half = share // 2, share % 2
    own = (half * H + h) * S * Q
    for i in range(own, own + S * Q):
        dkeys[i] = 0
    for t in range(T):
        at = ((t * H + h) * 2 + half) * Q
        for i in range(at, at + Q):
            dquery[i] = 0
        for pair in range((t * H + h) * K, (t * H + h + 1) * K):
            name = numpy.uint32(ids[pair])
            s = name % numpy.uint32(S) if half else name // numpy.uint32(S)
            row = own + numpy.int64(s) * Q
            add_scaled(dquery, at, weights[pair], keys, row, Q)
            add_scaled(dkeys, row, weights[pair], query, at, Q)
