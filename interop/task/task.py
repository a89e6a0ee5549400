"""What goes in and out of a kernel, and the numbers that name a case."""

from typing import TypedDict

from torch import Tensor

input_t = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
output_t = Tensor


class TestSpec(TypedDict):
    tokens: int
    pairs: int
    experts: int
    dim: int
    routing: str  # uniform, skewed or same
    seed: int
