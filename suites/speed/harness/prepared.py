"""Preparing and timing one cell in this process, with the `peer` and `baselines` at hand."""

from typing import Any

import torch
from torch import Tensor

from suites.layers import LAYERS
from suites.measure.time import Timer, timer, warm_up
from suites.speed.cells.case import Cell
from suites.speed.subjects import controls, feedforward, operations, rivals
from suites.speed.subjects.subject import Subject

CATALOGUE = operations.OPERATIONS | rivals.RIVALS | controls.CONTROLS


class Prepared:
    """A built cell: `run` is the timed call, `before` what goes untimed ahead of each."""

    def __init__(self, cell: Cell, subject: Subject, timer: Timer) -> None:
        self.cell, self.subject, self.timer = cell, subject, timer
        self.call: Any = torch.compile(subject.forward) if cell.compiled else subject.forward
        self.leaves = subject.leaves()
        self.output: Tensor | None = None
        self.gradient: Tensor | None = None
        if cell.phase == "training_step":
            assert subject.module is not None
            # A rate of zero costs what any other does, and every sample meets the same parameters.
            self.optimizer = torch.optim.AdamW(
                subject.module.parameters(), lr=0.0, weight_decay=0.1, fused=True
            )

    def before(self) -> None:
        """Drops gradients, and for a backward builds the graph again."""
        for leaf in self.leaves:
            leaf.grad = None
        if self.cell.phase == "backward":
            self.output = self.call(*self.subject.inputs)

    def run(self) -> Any:
        if self.cell.phase == "inference" or self.cell.is_control:
            with torch.no_grad():
                return self.call(*self.subject.inputs)
        if self.cell.phase == "forward":
            return self.call(*self.subject.inputs)
        if self.cell.phase == "backward":
            assert self.output is not None
            return self.backward(self.output)
        self.backward(self.call(*self.subject.inputs))
        return self.optimizer.step()

    def backward(self, output: Tensor) -> None:
        if self.gradient is None:
            # Seeded noise, dense in memory: an expanded constant takes other code paths.
            self.gradient = torch.ones_like(output)
            if output.dim():
                self.gradient.normal_()
        torch.autograd.backward(output, self.gradient)

    def warm_up(self, at_least_s: float = 0.05, at_most_s: float = 1.0) -> float:
        """Compiles, tunes and calls until times are stable; returns seconds per call."""
        return warm_up(self.timer, self.run, self.before, at_least_s, at_most_s)

    def sample(self, count: int) -> list[float]:
        """Seconds of `count` calls."""
        return self.timer.sample(self.run, self.before, count)


def prepare(cell: Cell, timed_by: Timer | None = None) -> Prepared:
    """Builds `cell` on its device and threads; raises subject.NotInstalled for a missing rival.

    Options of the cell reach `suites.layers.build`, or the operation, as they are.
    """
    torch.set_num_threads(cell.threads)
    if cell.backbone is not None:
        build = feedforward.decoder
    elif cell.layer in LAYERS:
        build = feedforward.layer
    elif cell.layer in CATALOGUE:
        build = CATALOGUE[cell.layer]
    else:
        raise ValueError(f"nothing is registered as {cell.layer!r}")
    torch.manual_seed(cell.seed)
    generator = torch.Generator(cell.device).manual_seed(cell.seed)
    return Prepared(cell, build(cell, generator), timed_by or timer(cell.device))
