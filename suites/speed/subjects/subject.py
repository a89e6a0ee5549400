"""What is timed: a call, what gets gradients, and what the call must compute and move."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from suites.speed.cells.case import Cell
from suites.speed.cells.demand import Demand

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class NotInstalled(Exception):
    """A rival of the package index is missing; the message says how to install it."""


@dataclass
class Subject:
    """`forward` takes `inputs`; `module` is what trains, None where only inputs get gradients.

    `truth` computes the output of `probe` by the reference; both take no arguments. `sizes` are the
    quantities of the comparison: what budgets check.
    """

    forward: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    demand: Demand
    module: nn.Module | None = None
    unique_experts: int | None = None
    probe: Callable[[], Tensor] | None = None
    truth: Callable[[], Tensor] | None = None
    sizes: dict[str, int | float | str] = field(default_factory=dict)

    def output_bytes(self) -> int:
        with torch.no_grad():
            return self.forward(*self.inputs).nbytes

    def leaves(self) -> list[Tensor]:
        """Tensors that receive a gradient."""
        parameters = list(self.module.parameters()) if self.module else []
        return [t for t in (*self.inputs, *parameters) if t.requires_grad]


def normal(cell: Cell, generator: torch.Generator, *shape: int, std: float = 1.0) -> Tensor:
    """A seeded N(0, std²) tensor in the cell's dtype; it gets a gradient except in inference."""
    values = torch.randn(shape, generator=generator, device=cell.device) * std
    return values.to(DTYPES[cell.dtype]).requires_grad_(cell.phase != "inference")
