"""An expert's activation and its derivatives, for engines that keep the pre-activations of pairs."""

import torch
from torch import Tensor

from peer.reference import ACTIVATIONS


def activate(hidden: Tensor, gates: Tensor, activation: str) -> Tensor:
    if gates.dim() == 1:
        return ACTIVATIONS[activation](hidden)
    return hidden * ACTIVATIONS[activation](gates)


def activation_gradient(grad: Tensor, before: Tensor, activation: str) -> Tensor:
    if activation == "gelu":
        return torch.ops.aten.gelu_backward(grad, before)
    if activation == "silu":
        return torch.ops.aten.silu_backward(grad, before)
    if activation == "none":
        return grad
    return torch.ops.aten.threshold_backward(grad, before, 0)


def activation_slopes(
    hidden: Tensor, gates: Tensor, activation: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(T, P) each: the activation of a pair, its derivative by hidden and, with a gate, by gates."""
    active = activate(hidden, gates, activation)
    if gates.dim() == 1:
        return active, activation_gradient(torch.ones_like(hidden), hidden, activation), None
    return active, ACTIVATIONS[activation](gates), activation_gradient(hidden, gates, activation)
