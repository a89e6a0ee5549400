"""PEER: Parameter Efficient Expert Retrieval (arXiv 2407.04153). Imports nothing else of this
repository.
"""

from peer.explain import explain
from peer.functional import bag, experts, retrieve
from peer.layer import PEER
from peer.router import ProductKeyRouter

__version__ = "0.1.0"
__all__ = ["PEER", "ProductKeyRouter", "__version__", "bag", "experts", "explain", "retrieve"]
