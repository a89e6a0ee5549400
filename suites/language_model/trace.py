"""Where the time of a training step goes: in kernels or around them."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from suites.language_model.case import TrainingCase
from suites.language_model.decoder import Decoder
from suites.language_model.train import adamw, language_loss, training_step

WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Trace:
    """Of a step: time without the profiler, closed-form FLOP/s, and under the profiler the share of
    time in kernels and of theirs by kernel, the largest first.
    """

    step_ms: float
    training_flops_per_s: float
    in_kernels: float
    largest: dict[str, float]


def trace(case: TrainingCase, vocabulary: int, steps: int, output: Path | None) -> Trace:
    """Trains a new model on random tokens, so routing is that of an untrained one.

    On a CPU a kernel is an ATen operator or one of ours, the time to dispatch it included; on a GPU it
    is what ran there. Writes a Chrome trace to `output` if given.
    """
    torch.manual_seed(case.seed)
    torch.set_num_threads(case.threads)
    device = torch.device(case.device)
    model = Decoder(case.backbone, vocabulary, case.layer, case.options, case.sites).to(device)
    optimizer = adamw(model, case.optimization)
    loss_of = torch.compile(language_loss) if case.compiled else language_loss
    shape = (case.batch_sequences, case.backbone.context)
    batch = torch.randint(vocabulary, shape), torch.randint(vocabulary, shape)

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            training_step(loss_of, model, optimizer, batch, case)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    model.train()
    run(WARM_UP_STEPS)
    seconds = run(steps)
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * cuda]) as profiler:
        profiled_s = run(steps)
    if output is not None:
        profiler.export_chrome_trace(str(output))
    kernels = times_us(profiler.key_averages(), cuda)
    total_us = sum(kernels.values())
    return Trace(
        step_ms=1e3 * seconds / steps,
        training_flops_per_s=model.training_flops(case.batch_sequences) * steps / seconds,
        in_kernels=total_us / 1e6 / profiled_s,
        largest={name: us / total_us for name, us in kernels.items()},
    )


def times_us(events: Any, cuda: bool) -> dict[str, float]:
    """Microseconds by kernel, the largest first; what an operator calls is not its own."""
    if cuda:
        found = {event.key: event.self_device_time_total for event in events}
    else:
        found = {
            event.key: event.self_cpu_time_total
            for event in events
            if event.key.startswith(("aten::", "peer::", "GeneratedBackwardFor_peer"))
        }
    return dict(sorted(found.items(), key=lambda item: -item[1]))
