"""What PEER is compared with. Every layer maps (..., dim) to (..., dim) and carries its own closed forms.

A layer here offers what `suites.layers.FeedForward` asks for: tables, and closed forms of its costs by part.
"""

from baselines.dense import DenseFFW
from baselines.expert_choice import ExpertChoiceMoE
from baselines.fine_grained import FineGrainedMoE
from baselines.memory_plus import MemoryPlus
from baselines.pkm import PKM
from baselines.sparsely_gated_linear import SparselyGatedLinear
from baselines.topk_moe import TopKMoE
from baselines.ultramem import UltraMemV2

__all__ = [
    "PKM",
    "DenseFFW",
    "ExpertChoiceMoE",
    "FineGrainedMoE",
    "MemoryPlus",
    "SparselyGatedLinear",
    "TopKMoE",
    "UltraMemV2",
]
