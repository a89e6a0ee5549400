"""What a cell must compute and move at the least: the numerators of FLOP/s and GB/s, and the floor.

Bytes are compulsory traffic: every distinct parameter row that the call touches once, inputs and
outputs once, gradients of touched rows once. Scratch, re-reads and the zeroes of a dense table
gradient are left out, so no implementation moves fewer. FLOPs count a multiply-add as 2, and
backward as twice the forward.
"""

from dataclasses import dataclass

from suites.speed.cells.case import Cell, Phase


@dataclass(frozen=True)
class Demand:
    """Of one call, in elements. `weights` are those read; `activations` inputs and outputs."""

    forward_flops: int
    weights: int
    activations: int
    index_bytes: int = 0
    parameters: int = 0

    def flops(self, phase: Phase) -> int:
        return self.forward_flops * {"backward": 2, "training_step": 3}.get(phase, 1)

    def bytes(self, phase: Phase, element_bytes: int) -> int:
        """Backward reads weights, inputs and the output's gradient, and writes the gradients.

        AdamW reads parameter, gradient and two moments of every parameter, and writes all but
        the gradient.
        """
        forward = (self.weights + self.activations) * element_bytes + self.index_bytes
        backward = (2 * self.weights + 1.5 * self.activations) * element_bytes + self.index_bytes
        if phase == "backward":
            return round(backward)
        if phase == "training_step":
            return round(forward + backward + 7 * self.parameters * element_bytes)
        return forward


@dataclass(frozen=True)
class Roof:
    """The best the machine gave in this run: a copy's bytes, both ways, and a GEMM's FLOPs."""

    bytes_per_s: float
    flops_per_s: float

    def floor_s(self, flops: float, moved_bytes: float) -> float:
        """No call can take less, unless its data lie in a cache."""
        return max(flops / self.flops_per_s, moved_bytes / self.bytes_per_s)


def element_bytes(cell: Cell) -> int:
    return {"float32": 4, "bfloat16": 2}[cell.dtype]
