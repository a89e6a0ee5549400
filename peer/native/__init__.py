"""The CPU engine compiled by numba: ATen's parts, with the experts' backward in one visit.

Imported when first used; float32 and float64.
"""

from peer.aten import gathered_dot, retrieve, route, table_gradient, update_rows, weighted_sum
from peer.native.backward import backward_in_one_visit
from peer.native.tokens import FEW_TOKENS, few_tokens

__all__ = [
    "FEW_TOKENS",
    "backward_in_one_visit",
    "few_tokens",
    "gathered_dot",
    "retrieve",
    "route",
    "table_gradient",
    "update_rows",
    "weighted_sum",
]
