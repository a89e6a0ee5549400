"""The Triton engine: the parts `peer.operators` runs, one algorithm per file. Imported when first
used.
"""

from peer.aten import route
from peer.kernels.dots import gathered_dot
from peer.kernels.fused import fused_experts
from peer.kernels.runs import table_gradient, update_rows
from peer.kernels.selection import retrieve
from peer.kernels.sums import weighted_sum

__all__ = [
    "fused_experts",
    "gathered_dot",
    "retrieve",
    "route",
    "table_gradient",
    "update_rows",
    "weighted_sum",
]
