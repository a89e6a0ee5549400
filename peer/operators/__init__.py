"""The operators behind `retrieve`, `experts` and `bag`: schema, fake, autograd; FLOPs are in
`peer.costs`.

Each is opaque to `torch.compile` and runs the parts of one engine, "aten", "native" or "triton".
Pre-activations leave `experts` in float32 or wider, so that backward holds an id, a score and a
pre-activation per pair and never (T, P, D). `route` sorts the pairs by expert once for a forward
and its backward.

Data types: tables, tokens and their gradients keep the dtype given; scores leave `retrieve` in
float32 or wider. Autocast never reaches inside an operator: `peer.functional` casts tokens to the
tables' dtype, since casting N·D parameters per call would cost more than the call.
"""

from peer.operators.bags import bag, bag_backward
from peer.operators.engine import engine
from peer.operators.mixture import experts, experts_backward, pair_gradients, token_gradient
from peer.operators.retrieval import retrieve, retrieve_backward, score_gradient
from peer.operators.routing import route, touched
from peer.operators.serving import few_tokens

__all__ = [
    "bag",
    "bag_backward",
    "engine",
    "experts",
    "experts_backward",
    "few_tokens",
    "pair_gradients",
    "retrieve",
    "retrieve_backward",
    "route",
    "score_gradient",
    "token_gradient",
    "touched",
]
