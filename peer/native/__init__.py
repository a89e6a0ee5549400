"""The CPU engine that numba compiles where it first runs: the parts `peer.operators` asks for.

Imported when first used; float32 and float64. A weighted sum of rows is `embedding_bag`, which no
loop here has beaten, and an optimizer's step inside backward is ATen's.
"""

from peer.aten import table_gradient, update_rows, weighted_sum
from peer.native.dots import gathered_dot
from peer.native.few import few_tokens
from peer.native.keys import own_keys_gradients
from peer.native.routing import route
from peer.native.selection import retrieve
from peer.native.visit import experts_gradients

__all__ = [
    "experts_gradients",
    "few_tokens",
    "gathered_dot",
    "own_keys_gradients",
    "retrieve",
    "route",
    "table_gradient",
    "update_rows",
    "weighted_sum",
]
