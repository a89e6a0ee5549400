"""The roof: a copy and a GEMM without code of ours, large enough for what the machine can give."""

import torch

from suites.speed.cells.case import Cell
from suites.speed.cells.demand import Demand
from suites.speed.subjects.subject import DTYPES, Subject


def copy(cell: Cell, generator: torch.Generator) -> Subject:
    """One buffer of `options["bytes"]` to another: that many read, as many written."""
    count = cell.size("bytes") // DTYPES[cell.dtype].itemsize
    source = torch.randn(count, generator=generator, device=cell.device).to(DTYPES[cell.dtype])
    target = torch.empty_like(source)
    return Subject(target.copy_, (source,), Demand(0, count, count))


def gemm(cell: Cell, generator: torch.Generator) -> Subject:
    """A square product of `options["size"]`."""
    n = cell.size("size")
    left, right = (
        torch.randn(n, n, generator=generator, device=cell.device).to(DTYPES[cell.dtype])
        for _ in range(2)
    )
    return Subject(torch.mm, (left, right), Demand(2 * n**3, n * n, 2 * n * n))


CONTROLS = {"copy": copy, "gemm": gemm}
