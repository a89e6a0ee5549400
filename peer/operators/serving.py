"""`few_tokens`: all that a layer does for few tokens, without gradients.

Registered without `custom_op`, whose wrappers take a third of the time of one token.
"""

import torch
from torch import Tensor
from torch.library import Library

from peer.namespace import NAMESPACE
from peer.operators.engine import engine

LIBRARY = Library(
    NAMESPACE, "FRAGMENT"
)  # goes, and its operator with it, when this file is reloaded
LIBRARY.define(
    "few_tokens(Tensor x, Tensor weight, Tensor? bias, str? norm, Tensor[] norm_tensors, float eps, "
    "Tensor sub_keys, Tensor down, Tensor up, Tensor? gate, int topk, str scores, str activation"
    ") -> Tensor"
)
few_tokens = getattr(torch.ops, NAMESPACE).few_tokens


@torch.library.impl(LIBRARY, "few_tokens", "CPU")
def _(*arguments) -> Tensor:
    return engine("native").few_tokens(*arguments)


@torch.library.register_fake(f"{NAMESPACE}::few_tokens", lib=LIBRARY)
def _(x, *_):
    return torch.empty_like(x)
