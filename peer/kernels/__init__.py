"""The Triton engine: the parts `peer.operators` runs, one algorithm per file. Imported when first
used.
"""

from peer.kernels.fused import fused_experts
from peer.kernels.matches import retrieve_gradients
from peer.kernels.order import route, touched
from peer.kernels.runs import (
    bag_gradients,
    experts_gradients,
    pair_gradients,
    update_rows,
)
from peer.kernels.selection import retrieve
from peer.kernels.sums import weighted_sum

__all__ = [
    "bag_gradients",
    "experts_gradients",
    "fused_experts",
    "pair_gradients",
    "retrieve",
    "retrieve_gradients",
    "route",
    "touched",
    "update_rows",
    "weighted_sum",
]
