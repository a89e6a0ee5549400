"""How large the activations of a trained layer are: one that drowns its model says nothing about methods."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from peer import PEER
from suites.language_model.decoder import Decoder

PROBE_TOKENS = 256  # of the (T, P, D) gather


@torch.no_grad()
def activity(model: Decoder, inputs_BL: Tensor) -> dict[str, float]:
    """Over a batch of token ids (B, L) in the model's present mode, means over its blocks.

    `output_over_residual`: root mean square of what a feed-forward adds over that of the stream it
    adds to, the largest of all blocks. `preactivation_std`: of the selected experts' x·down, where
    the model has PEER.
    """
    ratios: list[float] = []
    deviations: list[float] = []
    with seen(model) as calls:
        model(inputs_BL)
    for ffw, x, added, total in calls:
        residual = total - added
        ratios.append(float(rms(added) / rms(residual)))
        if isinstance(ffw, PEER):
            x_TD = x.reshape(-1, ffw.dim)[:PROBE_TOKENS]
            rows_TPD = ffw.down[ffw.selected(x_TD).flatten(1)]
            deviations.append(float(torch.einsum("tpd,td->tp", rows_TPD, x_TD).std()))
    found = {"output_over_residual": max(ratios)}
    if deviations:
        found["preactivation_std"] = sum(deviations) / len(deviations)
    return found


def rms(x: Tensor) -> Tensor:
    return x.float().square().mean().sqrt()


@contextmanager
def seen(model: Decoder) -> Iterator[list[tuple[nn.Module, Tensor, Tensor, Tensor]]]:
    """(feed-forward, its input, its output, the block's output) of every block's call."""
    calls: list[tuple[nn.Module, Tensor, Tensor, Tensor]] = []
    inner: list[tuple[nn.Module, Tensor, Tensor]] = []

    def of_layer(ffw: nn.Module, given: tuple[Any, ...], output: Tensor) -> None:
        inner.append((ffw, given[0], output))

    def of_block(block: nn.Module, given: tuple[Any, ...], output: tuple[Tensor, Any]) -> None:
        calls.append((*inner.pop(), output[0]))

    hooks = [
        block.ffw.register_forward_hook(of_layer)  # type: ignore[union-attr]  # ModuleList forgets Block
        for block in model.blocks
    ]
    hooks += [block.register_forward_hook(of_block) for block in model.blocks]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
