"""Counted bytes are the tensors' own, the same each time."""

import torch

from suites.measure.memory import allocation

MIB = 2**20


def two_then_one() -> torch.Tensor:
    first = torch.empty(MIB, dtype=torch.uint8)
    second = torch.empty(2 * MIB, dtype=torch.uint8)
    del first
    return second


def test_peak_and_kept_bytes():
    counted = allocation("cpu", two_then_one)
    assert counted.peak_bytes == 3 * MIB
    assert counted.kept_bytes == 2 * MIB


def test_repeats_exactly_and_ignores_what_was_there():
    there = torch.ones(512, 512)
    counts = {allocation("cpu", lambda: there @ there) for _ in range(3)}
    assert {c.kept_bytes for c in counts} == {MIB}
    assert len(counts) == 1
