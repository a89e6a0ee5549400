"""The one training loop."""

import math
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from suites.errors import UserError
from suites.language_model.batches import Batches
from suites.language_model.case import Optimization, TrainingCase
from suites.language_model.checkpoint import Checkpoint, Stopped
from suites.language_model.decoder import Decoder
from suites.language_model.evaluate import evaluate, evaluate_set, logits_of, usage_now
from suites.language_model.placement import Alone
from suites.language_model.usage import points
from suites.records.budget import Budget
from suites.records.record import Record, digest
from suites.text.corpus import Corpus
from suites.text.evaluations import Prepared

REPORTS = 100  # losses read from the device per run: each one waits for it
ALONE = Alone()

Progress = Callable[[int, int, float, float], None]  # step, steps, loss, tokens per second


def train(
    case: TrainingCase,
    corpus: Corpus,
    progress: Progress,
    sets: Sequence[Prepared] = (),
    checkpoint: Checkpoint | None = None,
    placement: Alone = ALONE,
) -> Record:
    """Runs `case` to its end, from where `checkpoint` left off; `sets` are those of the case, in order.

    A loss that is not finite ends a run as "diverged". Raises Stopped, with a checkpoint written, where
    that was told to stop. `placement` says where the model lies; of several processes the first returns
    the evaluated record.
    """
    torch.manual_seed(case.seed)
    torch.set_num_threads(case.threads)
    device = torch.device(case.device)
    model = placement.place(decoder(case, corpus), device)
    steps = step_count(case.budget_flops, model.training_flops(case.batch_sequences))
    batches = Batches(
        corpus.tokens("train"), case.backbone.context, case.batch_sequences, case.seed
    )
    optimizer = adamw(model, case.optimization)
    peaks = [group["lr"] for group in optimizer.param_groups]
    loss_of = torch.compile(language_loss) if case.compiled else language_loss
    step_tokens = case.batch_sequences * case.backbone.context
    every = max(1, steps // REPORTS)
    curve = Curve()
    if checkpoint is not None:
        behind = placement.restore(checkpoint, model, optimizer)
        curve = curve if behind is None else Curve(**behind)
    looks = points(steps)

    def whole() -> Decoder | None:
        return placement.whole(model, lambda: decoder(case, corpus))

    def look() -> None:
        if (one := whole()) is not None:
            curve.look(usage_now(one, case, corpus))

    if curve.steps == 0:
        look()

    model.train()
    clock = Clock(curve)
    if checkpoint is not None:
        checkpoint.training = True
    for step in range(curve.steps, steps):
        share = schedule(step, steps, case.optimization)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * share
        loss = training_step(loss_of, model, optimizer, batches(step), case, placement)
        curve.steps = step + 1
        if step % every == 0 or curve.steps in looks:
            curve.report(step + 1, placement.sum(loss).item())
            clock.read()
            progress(step + 1, steps, curve.losses[-1], step_tokens * clock.steps_per_s())
            if not curve.is_finite():
                break
            if curve.steps in looks:
                look()
                clock.skip()
            if checkpoint is not None and placement.agree(checkpoint.due()):
                placement.save(checkpoint, asdict(curve), model, optimizer)
                clock.skip()
        if checkpoint is not None and placement.agree(checkpoint.stopping):
            clock.read()
            placement.save(checkpoint, asdict(curve), model, optimizer)
            raise Stopped
    if checkpoint is not None:
        checkpoint.training = False
    metrics: dict[str, float | int | str | None] = {
        **shape(model, case),
        "steps": steps,
        "tokens": steps * step_tokens,
        "epochs": steps / batches.per_epoch,
        "training_flops": steps * model.training_flops(case.batch_sequences),
        "train_s": curve.seconds,
        "tokens_per_s": step_tokens * clock.steps_per_s(),
        "peak_bytes": peak_bytes(device),
    }
    series = curve.series()
    if not curve.is_finite():
        reason = f"training loss is {curve.losses[-1]} at step {curve.steps} of {steps}"
        return Record(
            case=dump(case), status="diverged", reason=reason, metrics=metrics, series=series
        )
    if (one := whole()) is not None:
        metrics |= evaluate(one, case, corpus)
        for prepared in sets:
            metrics |= evaluate_set(one, case, prepared)
    return Record(case=dump(case), status="ok", metrics=metrics, series=series)


@dataclass
class Curve:
    """What a run has behind it; with model, optimizer and generators all that it needs to go on."""

    steps: int = 0
    seconds: float = 0.0
    reported: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    looks: dict[str, list[float]] = field(default_factory=dict)

    def look(self, usage: dict[str, float]) -> None:
        """Adds to the series of a layer with experts, which has its own steps."""
        for name, value in ({"usage_step": float(self.steps)} | usage if usage else {}).items():
            self.looks.setdefault(name, []).append(value)

    def report(self, step: int, loss: float) -> None:
        self.reported.append(float(step))
        self.losses.append(loss)

    def is_finite(self) -> bool:
        return math.isfinite(self.losses[-1])

    def series(self) -> dict[str, list[float]]:
        """Without the loss that ended a diverged run, which no JSON holds."""
        end = None if self.is_finite() else -1
        return {"step": self.reported[:end], "train_loss_nats": self.losses[:end], **self.looks}


class Clock:
    """Adds to the seconds of a curve; times the speed from the first step's end, when all is compiled."""

    def __init__(self, curve: Curve) -> None:
        self.curve = curve
        self.last = time.perf_counter()
        self.first: tuple[int, float] | None = None

    def read(self) -> None:
        """Called where the device has been waited for."""
        now = time.perf_counter()
        self.curve.seconds += now - self.last
        self.last = now
        if self.first is None:
            self.first = (self.curve.steps, self.curve.seconds)

    def skip(self) -> None:
        """Leaves out what happened since the last reading."""
        self.last = time.perf_counter()

    def steps_per_s(self) -> float:
        """Of this sitting, its first steps left out if it has others."""
        steps, seconds = self.first or (0, 0.0)
        if steps == self.curve.steps:
            steps, seconds = 0, 0.0
        return (self.curve.steps - steps) / max(self.curve.seconds - seconds, 1e-9)


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
        table_rates(model, case.optimization)
        step_flops = model.training_flops(case.batch_sequences)
        name = f"{case.layer} {digest(case.options)[:8]} in {case.backbone.blocks} × {case.backbone.dim}"
        steps = step_count(case.budget_flops, step_flops)
        spent.setdefault(case.budget_flops, {})[name] = steps * step_flops
    for budget, rows in spent.items():
        Budget(kind="training_flops", reference=budget).check(rows)


def decoder(case: TrainingCase, corpus: Corpus) -> Decoder:
    return Decoder(case.backbone, corpus.vocabulary, case.layer, case.options, case.sites)


def language_loss(model: Decoder, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | float]:
    """Mean negative log likelihood in nats per token, and the losses that layers ask for besides.

    A GPU computes the model in bfloat16.
    """
    logits, asked = logits_of(model, inputs, with_loss=True)
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten()), asked


def training_step(
    loss_of: Callable[..., tuple[Tensor, Tensor | float]],
    model: Decoder,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    case: TrainingCase,
    placement: Alone = ALONE,
) -> Tensor:
    """One update; returns a process's share of the loss as a device tensor, so that nothing waits for it."""
    device = torch.device(case.device)
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=device)
    size = case.micro_sequences or case.batch_sequences
    parts = list(zip(*(tokens.split(size) for tokens in batch), strict=True))
    for tokens in parts:
        inputs, targets = (to_device(placement.part(some), device) for some in tokens)
        share = len(inputs) / case.batch_sequences
        loss, asked = loss_of(model, inputs, targets)
        (share * (loss + asked)).backward()
        total += share * loss.detach()
    placement.clip(model, case.optimization.gradient_clip)
    optimizer.step()
    placement.after_step(model)
    return total


def to_device(tokens: Tensor, device: torch.device) -> Tensor:
    """Through pinned memory, without which a copy to a GPU is waited for."""
    return tokens if device.type == "cpu" else tokens.pin_memory().to(device, non_blocking=True)


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
    """Backbone matrices with weight decay, vectors without, each table at a rate of its own."""
    tables = {id(table) for table in model.tables()}
    rates = table_rates(model, optimization)
    backbone = [p for p in model.parameters() if id(p) not in tables]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in backbone if p.dim() > 1], "weight_decay": optimization.weight_decay},
        {"params": [p for p in backbone if p.dim() < 2]},
    ]
    groups += [
        {
            "params": [table],
            "lr": rate * table.detach().square().mean().sqrt().item(),
        }
        for table, rate in zip(model.tables(), rates, strict=True)
    ]
    return torch.optim.AdamW(
        groups,
        lr=optimization.learning_rate,
        betas=(optimization.beta1, optimization.beta2),
        weight_decay=0.0,
        fused=True,
    )


def table_rates(model: Decoder, optimization: Optimization) -> list[float]:
    """Per table of the model; raises UserError where a rate is stated for a table it does not have."""
    names = {id(p): name.rpartition(".")[2] for name, p in model.named_parameters()}
    own = [names[id(table)] for table in model.tables()]
    if unknown := set(optimization.table_rates) - set(own):
        raise UserError(
            f"table_rates names {', '.join(sorted(unknown))}; the tables of this model are "
            f"{', '.join(dict.fromkeys(own)) or 'none'}"
        )
    return [optimization.table_rates.get(name, optimization.table_rate) for name in own]


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
