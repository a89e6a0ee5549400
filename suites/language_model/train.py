"""The one training loop, and the evaluation that ends it."""

import math
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from suites.errors import UserError
from suites.language_model.batches import Batches
from suites.language_model.case import Optimization, TrainingCase
from suites.language_model.corpus import Corpus
from suites.language_model.decoder import Decoder
from suites.records.budget import Budget
from suites.records.record import Record, digest

VALIDATION_ORDER = 0  # the same windows for every run
REPORTS = 100  # losses read from the device per run: each one waits for it

Progress = Callable[[int, int, float, float], None]  # step, steps, loss, tokens per second


def train(case: TrainingCase, corpus: Corpus, progress: Progress) -> Record:
    """Runs `case` to its end; a loss that is not finite ends it as "diverged"."""
    torch.manual_seed(case.seed)
    torch.set_num_threads(case.threads)
    device = torch.device(case.device)
    model = decoder(case, corpus).to(device)
    steps = step_count(case.budget_flops, model.training_flops(case.batch_sequences))
    batches = Batches(
        corpus.tokens("train"), case.backbone.context, case.batch_sequences, case.seed
    )
    optimizer = adamw(model, case.optimization)
    peaks = [group["lr"] for group in optimizer.param_groups]
    step_tokens = case.batch_sequences * case.backbone.context
    every = max(1, steps // REPORTS)
    losses: list[float] = []
    reported: list[float] = []

    model.train()
    start = time.perf_counter()
    for step in range(steps):
        share = schedule(step, steps, case.optimization)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * share
        loss = training_step(
            model, optimizer, batches(step), device, case.optimization.gradient_clip
        )
        if step % every == 0 or step == steps - 1:
            losses.append(loss.item())
            reported.append(float(step + 1))
            elapsed = time.perf_counter() - start
            progress(step + 1, steps, losses[-1], step_tokens * (step + 1) / elapsed)
            if not math.isfinite(losses[-1]):
                break
    elapsed = time.perf_counter() - start
    finished = len(losses) > 0 and math.isfinite(losses[-1])
    metrics: dict[str, float | int | str | None] = {
        **shape(model, case),
        "steps": steps,
        "tokens": steps * step_tokens,
        "epochs": steps / batches.per_epoch,
        "training_flops": steps * model.training_flops(case.batch_sequences),
        "train_s": elapsed,
        "tokens_per_s": int(reported[-1]) * step_tokens / elapsed,
        "peak_bytes": peak_bytes(device),
    }
    series = {
        "step": reported if finished else reported[:-1],
        "train_loss_nats": losses if finished else losses[:-1],
    }
    if not finished:
        reason = f"training loss is {losses[-1]} at step {int(reported[-1])} of {steps}"
        return Record(
            case=dump(case), status="diverged", reason=reason, metrics=metrics, series=series
        )
    metrics |= evaluate(model, case, corpus)
    return Record(case=dump(case), status="ok", metrics=metrics, series=series)


def preflight(cases: list[TrainingCase], corpus: Corpus) -> None:
    """Refuses, before any work, what could not end in a table: too little text, or budgets that miss.

    Models are built on the meta device, which costs no memory.
    """
    spent: dict[float, dict[str, float]] = {}
    for case in cases:
        for split in ("train", "validation"):
            Batches(corpus.tokens(split), case.backbone.context, case.batch_sequences, case.seed)
        with torch.device("meta"):
            model = decoder(case, corpus)
        step_flops = model.training_flops(case.batch_sequences)
        name = f"{case.layer} {digest(case.options)[:8]} in {case.backbone.blocks} × {case.backbone.dim}"
        steps = step_count(case.budget_flops, step_flops)
        spent.setdefault(case.budget_flops, {})[name] = steps * step_flops
    for budget, rows in spent.items():
        Budget(kind="training_flops", reference=budget).check(rows)


def decoder(case: TrainingCase, corpus: Corpus) -> Decoder:
    return Decoder(case.backbone, corpus.vocabulary, case.layer, case.options, case.sites)


def training_step(model, optimizer, batch, device, gradient_clip) -> torch.Tensor:
    """One update; returns the loss as a device tensor, so that nothing waits for it."""
    inputs, targets = (t.to(device, non_blocking=True) for t in batch)
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        logits = model(inputs)
    loss = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
    (loss + model.auxiliary_loss()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), gradient_clip)
    optimizer.step()
    return loss.detach()


@torch.no_grad()
def evaluate(model: Decoder, case: TrainingCase, corpus: Corpus) -> dict[str, float | int]:
    """Mean loss over the first `evaluation_tokens` of the validation windows in a fixed order.

    Bits per byte use the bytes per token of the whole validation split.
    """
    batches = Batches(
        corpus.tokens("validation"), case.backbone.context, case.batch_sequences, VALIDATION_ORDER
    )
    step_tokens = case.batch_sequences * case.backbone.context
    count = min(max(1, case.evaluation_tokens // step_tokens), batches.per_epoch)
    device = next(model.parameters()).device
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=device)
    for step in range(count):
        inputs, targets = (t.to(device) for t in batches(step))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = model(inputs)
        total += F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten()).double()
    loss = total.item() / count
    split = corpus.validation
    return {
        "evaluation_tokens": count * step_tokens,
        "validation_loss_nats": loss,
        "validation_perplexity": math.exp(min(loss, 700.0)),
        "validation_bits_per_byte": loss / math.log(2) * split.tokens / split.utf8_bytes,
    }


def step_count(budget_flops: float, step_flops: int) -> int:
    """Steps whose training FLOPs come nearest to the budget; raises UserError when it buys none."""
    steps = round(budget_flops / step_flops)
    if steps < 1:
        raise UserError(
            f"a budget of {budget_flops:.3g} FLOPs does not buy one batch, which costs {step_flops:.3g}; "
            "raise the budget or shrink the batch or the model"
        )
    return steps


def schedule(step: int, steps: int, optimization: Optimization) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine that ends with the run."""
    warmup = math.ceil(optimization.warmup_share * steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - 1 - warmup)
    floor = optimization.final_share
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def adamw(model: Decoder, optimization: Optimization) -> torch.optim.AdamW:
    """Backbone matrices with weight decay, vectors without, tables at a learning rate of their own."""
    tables = {id(table) for table in model.tables()}
    backbone = [p for p in model.parameters() if id(p) not in tables]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in backbone if p.dim() > 1], "weight_decay": optimization.weight_decay},
        {"params": [p for p in backbone if p.dim() < 2]},
        {"params": model.tables(), "lr": optimization.table_learning_rate},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=optimization.learning_rate,
        betas=(optimization.beta1, optimization.beta2),
        weight_decay=0.0,
        fused=True,
    )


def shape(model: Decoder, case: TrainingCase) -> dict[str, float | int | str]:
    """What the model is, by the closed forms beside its parameters."""
    tokens = case.batch_sequences * case.backbone.context
    layer = model.layers()[case.sites[0]] if case.sites else model.layers()[0]
    return {
        "parameters": model.parameters_total(),
        "active_parameters": model.active_parameters(),
        "table_parameters": sum(table.numel() for table in model.tables()),
        "forward_flops_per_token": sum(model.flops(case.batch_sequences).values()) / tokens,
        "implementation": getattr(layer, "implementation", "torch"),
    }


def peak_bytes(device: torch.device) -> int:
    """Peak of the allocator on a GPU, peak resident set of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def dump(case: TrainingCase) -> dict:
    return case.model_dump(mode="json")
