"""How long the Triton kernels may take on an H200: a prediction from counts, never a measurement.

Each launch takes the slowest of issuing its instructions, DRAM, L2 and matrix products, a share of the
second slowest, and the launch. Instructions are counted in the binary (`counted.csv`), bytes follow
from the routing, here near uniform. What cannot be known without a GPU stands in `ASSUMPTIONS`:
instructions per cycle, and what random rows leave of the bandwidth. The order of two predictions holds
over the whole range; a time alone is ±30 % at best.
"""

import csv
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

MULTIPROCESSORS = 132
CLOCK_HZ = 1.9e9
BYTES_PER_SECOND = 4.3e12  # a measured device-to-device copy
L2_BYTES_PER_SECOND = 5.5e12
L2_BYTES = 50e6  # of 60 MB, what is left for rows that are read again
FLOPS_PER_SECOND = 790e12  # bf16 matrix products
OVERLAP = 0.15  # of the second slowest that is not hidden
LAUNCH_US = 3.0
PLACE_BYTES = 8  # of torch's sort, beside a key


class Assumption(NamedTuple):
    instructions_per_cycle: float  # of the four that a multiprocessor can issue
    bandwidth: float  # share of BYTES_PER_SECOND


ASSUMPTIONS = {
    "least": Assumption(2.6, 1.0),
    "likely": Assumption(2.0, 0.92),
    "most": Assumption(1.5, 0.85),
}


class Work(NamedTuple):
    """What one step issues, in instructions of a warp, and moves, in bytes."""

    instructions: float = 0.0
    dram_bytes: float = 0.0
    l2_bytes: float = 0.0
    flops: float = 0.0
    launches: int = 1


class Experts(NamedTuple):
    """The expert part of a call: T tokens, their pairs, D, N and the distinct ones, bytes of a number."""

    tokens: int
    pairs: int
    dim: int
    experts: int
    distinct: float
    element_bytes: int

    @property
    def row_bytes(self) -> int:
        return self.dim * self.element_bytes

    def table_rows(self) -> tuple[float, float]:
        """Bytes of DRAM and of L2 when every pair reads its row of one table, tokens in order."""
        misses = 1 - min(1.0, L2_BYTES / (self.experts * self.row_bytes))
        again = max(0.0, self.pairs - self.distinct)
        return (self.distinct + again * misses) * self.row_bytes, self.pairs * self.row_bytes

    def token_rows(self) -> tuple[float, float]:
        """The same when every pair reads a row of its token, in the order of experts."""
        size = self.tokens * self.row_bytes
        misses = 1 - min(1.0, L2_BYTES / size)
        return size + (self.pairs - self.tokens) * self.row_bytes * misses, (
            self.pairs * self.row_bytes
        )


def predicted_us(steps: Iterable[Work]) -> dict[str, float]:
    """Microseconds of the steps, one after another, by the name of the assumption."""
    times = dict.fromkeys(ASSUMPTIONS, 0.0)
    for work in steps:
        for name, (per_cycle, share) in ASSUMPTIONS.items():
            *_, second, slowest = sorted(
                (
                    work.instructions / (MULTIPROCESSORS * CLOCK_HZ * per_cycle),
                    work.dram_bytes / (BYTES_PER_SECOND * share),
                    work.l2_bytes / L2_BYTES_PER_SECOND,
                    work.flops / FLOPS_PER_SECOND,
                )
            )
            times[name] += (slowest + OVERLAP * second) * 1e6 + LAUNCH_US * work.launches
    return times


def floor_us(dram_bytes: float, flops: float = 0.0) -> float:
    """The compulsory bytes at the speed of a copy, or the products at that of the matrix units."""
    return max(dram_bytes / BYTES_PER_SECOND, flops / FLOPS_PER_SECOND) * 1e6


def forward(call: Experts, issued: Mapping[str, float]) -> list[Work]:
    """`issued`: instructions of a warp by `KERNEL.pair`, `KERNEL.run` of equal experts, `KERNEL.query`."""
    dram, l2 = call.table_rows()
    rest = 2 * call.tokens * call.row_bytes + call.pairs * (8 + call.element_bytes)
    return [Work(call.pairs * issued["fused_experts_kernel.pair"], 2 * dram + rest, 2 * l2)]


def backward(call: Experts, issued: Mapping[str, float], sparse: bool) -> list[Work]:
    """Sort, zeros of dense gradients, the walk in expert order, and the gradient of tokens."""
    steps = [sort(call.pairs, call.experts)]
    if not sparse:
        steps.append(Work(dram_bytes=2 * call.experts * call.row_bytes, launches=2))
    dram, l2 = call.token_rows()
    scalars = call.pairs * (16 + 2 * call.element_bytes)
    # Of the distinct experts the row of up is read, and those of both gradients are written.
    moved = 2 * dram + 3 * call.distinct * call.row_bytes + scalars
    walked = call.pairs * issued["runs_kernel.pair"] + call.distinct * issued["runs_kernel.run"]
    steps.append(Work(walked, moved, 2 * l2, launches=2))
    dram, l2 = call.table_rows()
    moved = dram + call.tokens * call.row_bytes + 8 * call.pairs
    steps.append(Work(call.pairs * issued["weighted_sum_kernel.pair"], moved, l2))
    return steps


class Retrieval(NamedTuple):
    """A call of the router's retrieval: T·H queries of `dim_key` columns, half of them for each half."""

    queries: int
    sub_keys: int
    dim_key: int
    topk: int
    element_bytes: int

    @property
    def flops(self) -> int:
        """Of the two products of queries and sub-keys, which every implementation makes."""
        return 2 * self.queries * self.sub_keys * self.dim_key


def retrieve(call: Retrieval, issued: Mapping[str, float]) -> list[Work]:
    moved = (call.queries + call.sub_keys) * call.dim_key * call.element_bytes
    moved += 8 * call.queries * call.topk
    return [Work(call.queries * issued["retrieve_kernel.query"], moved, flops=call.flops)]


def retrieve_backward(call: Retrieval, issued: Mapping[str, float]) -> list[Work]:
    """Gradients of matches and queries, then the walk that sums those of the sub-keys."""
    halves = 2 * call.queries * call.topk  # pairs of a query and a sub-key
    rows_bytes = halves * call.dim_key // 2 * call.element_bytes
    queries_bytes = call.queries * call.dim_key * call.element_bytes
    return [
        Work(
            call.queries * issued["match_gradients_kernel.query"],
            2 * queries_bytes + 14 * halves,
            rows_bytes,
        ),
        sort(halves, 2 * call.sub_keys),
        Work(
            halves * issued["runs_kernel.pair"] + 2 * call.sub_keys * issued["runs_kernel.run"],
            queries_bytes + 12 * halves,
            rows_bytes,
            launches=3,
        ),
    ]


def sort(pairs: int, rows: int) -> Work:
    """torch's radix sort of 16 or 32 bits, eight a pass, keys and places read and written by each."""
    key_bytes = 2 if rows <= 1 << 15 else 4
    return Work(
        dram_bytes=2 * key_bytes * pairs * (key_bytes + PLACE_BYTES), launches=2 + key_bytes
    )


@functools.cache
def counted(operation: str, width: int) -> dict[str, float]:
    """`issued` of an operation on bfloat16 rows of `width`; empty where none was counted.

    A kernel's columns are the next power of two.
    """
    columns = str(1 << max(width - 1, 0).bit_length())
    lines = Path(__file__).with_name("counted.csv").read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {
        row["count"]: float(row["instructions"])
        for row in rows
        if (row["operation"], row["columns"]) == (operation, columns)
    }
