"""The namespace of the operators: `peer`, or `peer_2` and so on for a further copy of this package in
one process, whose operators would else replace the first's.
"""

from itertools import chain, count

import torch

#: `torch.ops.NAMESPACE` holds the operators of this copy.
NAMESPACE = next(
    name
    for name in chain(["peer"], (f"peer_{number}" for number in count(2)))
    if not hasattr(getattr(torch.ops, name), "experts")
)
