"""What a trained model reaches: on the validation text, and on further sets."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from suites.language_model.activity import activity
from suites.language_model.batches import Batches
from suites.language_model.case import TrainingCase
from suites.language_model.causality import leaks
from suites.language_model.decoder import Decoder
from suites.language_model.usage import Usage, usage_on
from suites.text.corpus import Corpus
from suites.text.evaluations import Prepared

VALIDATION_ORDER = 0  # the same windows for every run


@torch.no_grad()
def evaluate(model: Decoder, case: TrainingCase, corpus: Corpus) -> dict[str, float | int]:
    """Mean loss over the first `evaluation_tokens` of the validation windows in a fixed order, the
    usage of experts over the same tokens, and the activations and the leaks on its first batch.

    Bits per byte use the bytes per token of the whole validation split, those that its tokens stand for.
    """
    batches = validation_batches(case, corpus)
    step_tokens = case.batch_sequences * case.backbone.context
    count = min(max(1, case.evaluation_tokens // step_tokens), batches.per_epoch)
    model.eval()
    usage = Usage(model)
    with usage.counted():
        total = sum(negative_log_likelihood(model, *batches(step)) for step in range(count))
    loss = float(total) / (count * step_tokens)
    split = corpus.validation
    return {
        "evaluation_tokens": count * step_tokens,
        "validation_loss_nats": loss,
        "validation_perplexity": math.exp(min(loss, 700.0)),
        "validation_bits_per_byte": loss / math.log(2) * split.tokens / split.utf8_bytes,
        **usage.metrics(),
        **activity(model, batches(0)[0].to(next(model.parameters()).device)),
        **leaks(model, batches(0)[0].to(next(model.parameters()).device)),
    }


def validation_batches(case: TrainingCase, corpus: Corpus) -> Batches:
    return Batches(
        corpus.tokens("validation"), case.backbone.context, case.batch_sequences, VALIDATION_ORDER
    )


def usage_now(model: Decoder, case: TrainingCase, corpus: Corpus) -> dict[str, float]:
    """Usage of experts on the first validation batch; empty for a model without product keys."""
    inputs, _ = validation_batches(case, corpus)(0)
    return usage_on(model, inputs.to(next(model.parameters()).device))


@torch.no_grad()
def evaluate_set(
    model: Decoder, case: TrainingCase, prepared: Prepared
) -> dict[str, float | int | str | None]:
    """A set as one text in windows of the context; every token but the first is predicted once.

    Bits per byte are of the UTF-8 bytes that its tokens stand for, what marks the ends of documents
    being free of bytes: text that a tokenizer loses is not predicted, and does not count.
    """
    context, sequences = case.backbone.context, case.batch_sequences
    tokens = torch.from_numpy(prepared.token_ids().astype(np.int64))
    model.eval()
    total = 0.0
    windows = (len(tokens) - 1) // context
    for first in range(0, windows, sequences):
        begin, end = first * context, min(first + sequences, windows) * context
        inputs, targets = tokens[begin:end], tokens[begin + 1 : end + 1]
        total += float(
            negative_log_likelihood(model, inputs.view(-1, context), targets.view(-1, context))
        )
    rest = tokens[windows * context :]
    if len(rest) > 1:
        total += float(negative_log_likelihood(model, rest[None, :-1], rest[None, 1:]))
    name, loss = prepared.name, total / (len(tokens) - 1)
    found: dict[str, float | int | str | None] = {
        f"{name}_documents": prepared.documents,
        f"{name}_tokens": len(tokens) - 1,
        f"{name}_utf8_bytes": prepared.utf8_bytes,
        f"{name}_loss_nats": loss,
        f"{name}_perplexity": math.exp(min(loss, 700.0)),
        f"{name}_bits_per_byte": total / math.log(2) / prepared.utf8_bytes,
    }
    if (answers := prepared.answers()) is not None:
        right = last_words(model, case, tokens, prepared.ends(), answers)
        found[f"{name}_last_word_accuracy"] = right / prepared.documents
    return found


def last_words(
    model: Decoder, case: TrainingCase, tokens: Tensor, ends: np.ndarray, answers: np.ndarray
) -> int:
    """Documents whose last word is the greedy continuation of what precedes it, in all its tokens.

    A document that is longer than the context loses its beginning.
    """
    device, context = next(model.parameters()).device, case.backbone.context
    starts = np.concatenate(([0], ends[:-1]))
    right = 0
    for first in range(0, len(ends), case.batch_sequences):
        some = slice(first, first + case.batch_sequences)
        # Without the token that ends a document; the last one is predicted and not read.
        documents = [
            tokens[start : end - 1][-context - 1 :]
            for start, end in zip(starts[some], ends[some], strict=True)
        ]
        inputs = torch.nn.utils.rnn.pad_sequence([d[:-1] for d in documents], batch_first=True)
        best = logits_of(model, inputs.to(device)).argmax(-1).cpu()
        for document, greedy, words in zip(documents, best, answers[some], strict=True):
            asked = document[-words:]
            right += torch.equal(greedy[len(document) - 1 - len(asked) : len(document) - 1], asked)
    return right


def negative_log_likelihood(model: Decoder, inputs: Tensor, targets: Tensor) -> Tensor:
    """Sum over tokens in nats, float64, on the model's device."""
    device = next(model.parameters()).device
    logits = logits_of(model, inputs.to(device)).flatten(0, 1).float()
    losses = F.cross_entropy(logits, targets.to(device).flatten(), reduction="none")
    return losses.double().sum()


def logits_of(model: Decoder, inputs: Tensor, with_loss: bool = False) -> Any:
    """As `Decoder.forward`; a GPU computes in bfloat16."""
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=inputs.device.type == "cuda"):
        return model(inputs, with_loss)
