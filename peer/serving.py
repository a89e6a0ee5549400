"""Few tokens without gradients, decoding's case: a layer as one operator, where nothing looks inside."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from peer.choice import resolve
from peer.functional import autocasts
from peer.operators import few_tokens

MOST_TOKENS = 16  # from where matrix products read the weights less often
PLAIN = (Tensor, nn.Parameter)  # and not sharded over processes, say
PARTS: dict[str | None, Any] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, None: nn.Identity}


def is_served(layer: Any, x_TD: Tensor) -> bool:
    """Whether `serve` can take the place of the router and of `experts`.

    Not where a gradient, a transform, a hook, a compiler or other modules than the router's own want
    to see its steps.
    """
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or not x_TD.is_cpu:
        return False
    if not 0 < x_TD.shape[0] <= MOST_TOKENS:
        return False
    router = layer.router
    norm: Any = router.norm
    modules = router, router.query, norm
    tensors = (router.query.weight, router.sub_keys, *layer.tables())
    return (
        all(t.dtype == x_TD.dtype and type(t) in PLAIN and t.is_contiguous() for t in tensors)
        and router.queries == router.heads
        and not router.own_pools
        and type(router.query) is nn.Linear
        and type(norm) is PARTS[router.query_norm]
        and (router.query_norm != "batch" or not norm.training)
        and not any(m._forward_hooks or m._forward_pre_hooks for m in modules)
        and not autocasts(x_TD)
        and forward_ad._current_level < 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and resolve(layer.impl, x_TD.device, x_TD.dtype) == "native"
    )


def serve(layer: Any, x_TD: Tensor) -> Tensor:
    """y (T, D) of a `peer.PEER`."""
    router = layer.router
    norm, norm_tensors = router.norm, []
    if router.query_norm is not None:
        norm_tensors = [norm.weight, norm.bias]
    if router.query_norm == "batch":
        norm_tensors += [norm.running_mean, norm.running_var]
    return few_tokens(
        x_TD.contiguous(),
        router.query.weight,
        router.query.bias,
        router.query_norm,
        norm_tensors,
        0.0 if router.query_norm is None else norm.eps,
        router.sub_keys,
        layer.down,
        layer.up,
        layer.gate,
        router.topk,
        router.scores,
        layer.activation,
    )
