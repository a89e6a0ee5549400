"""How far predictions depend on tokens they must not see: batch statistics and expert choice leak."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from suites.language_model.decoder import Decoder

SEQUENCES = 8  # of the batch that is looked at: logits of two calls are held at once


@torch.no_grad()
def leaks(model: Decoder, inputs_BL: Tensor) -> dict[str, float]:
    """Mean KL divergence in nats that other tokens cause, in training and in evaluation mode.

    `future`: the second half of every sequence of `inputs_BL` (B, L), of which 8 are used, is replaced;
    predictions in the first half must not move. `batch`: all sequences but the first are replaced;
    predictions in the first must not move. A causal model gives exactly 0. The model is left as it was.
    """
    inputs_BL, half = inputs_BL[:SEQUENCES], inputs_BL.shape[1] // 2
    replaced = (inputs_BL + 1 + inputs_BL.roll(1, dims=1)) % model.vocabulary
    future, batch = inputs_BL.clone(), inputs_BL.clone()
    future[:, half:] = replaced[:, half:]
    batch[1:] = replaced[1:]
    found: dict[str, float] = {"leak_tokens": inputs_BL.numel()}
    with restored(model):
        for mode, training in (("training", True), ("evaluation", False)):
            model.train(training)
            seen = model(inputs_BL)
            found[f"{mode}_future_leak_nats"] = divergence(seen[:, :half], model(future)[:, :half])
            if len(inputs_BL) > 1:
                found[f"{mode}_batch_leak_nats"] = divergence(seen[:1], model(batch)[:1])
    return found


def divergence(logits: Tensor, others: Tensor) -> float:
    """Mean KL(softmax(logits) ‖ softmax(others)) over positions, in float64."""
    one, other = (F.log_softmax(z.double().flatten(0, -2), -1) for z in (logits, others))
    return float(F.kl_div(other, one, reduction="batchmean", log_target=True))


@contextmanager
def restored(model: Decoder) -> Iterator[None]:
    """Puts back mode and buffers, which a forward call in training mode changes under batch norm."""
    training = model.training
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        yield
    finally:
        model.train(training)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
