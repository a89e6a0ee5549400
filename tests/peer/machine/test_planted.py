"""Defects planted in small kernels, each of which the machine has to find. Without it: right numbers."""

import dataclasses

import pytest
import torch
import triton
import triton.language as tl

from tests.peer.machine import launch
from tests.peer.machine.memory import Fault
from tests.peer.machine.ptx import instruction, parse


@triton.jit
def scale_kernel(x_ptr, out_ptr, count, SHIFT: tl.constexpr, MASKED: tl.constexpr):
    """out = 2·x, 128 elements a program; read SHIFT elements to the right."""
    place = tl.program_id(0) * 128 + tl.arange(0, 128)
    if MASKED:
        x = tl.load(x_ptr + place + SHIFT, mask=place < count)
        tl.store(out_ptr + place, 2 * x, mask=place < count)
    else:
        tl.store(out_ptr + place, 2 * tl.load(x_ptr + place + SHIFT))


@triton.jit
def total_kernel(x_ptr, out_ptr):
    """out = Σ x over 1,024 elements, across four warps by way of shared memory."""
    place = tl.arange(0, 1024)
    tl.store(out_ptr + place, tl.load(x_ptr + place) + tl.sum(tl.load(x_ptr + place), axis=0))


@triton.jit
def overlapping_kernel(x_ptr, out_ptr, STRIDE: tl.constexpr):
    """Programs write 32 elements each, STRIDE apart."""
    place = tl.arange(0, 32)
    x = tl.load(x_ptr + tl.program_id(0) * 32 + place)
    tl.store(out_ptr + tl.program_id(0) * STRIDE + place, x)


@triton.jit
def count_kernel(x_ptr, out_ptr, ATOMIC: tl.constexpr):
    """out = how many programs there are, counted by each adding 1."""
    if ATOMIC:
        tl.atomic_add(out_ptr, 1)
    else:
        tl.store(out_ptr, tl.load(out_ptr) + 1)


def test_nothing_planted():
    x = torch.randn(250)
    out = torch.full_like(x, torch.nan)
    scale_kernel[(2,)](x, out, 250, SHIFT=0, MASKED=True)
    assert torch.equal(out, 2 * x)


def test_a_dropped_mask():
    x = torch.randn(250)
    with pytest.raises(Fault, match=r"bytes at .* of x_ptr, which has 1000"):
        scale_kernel[(2,)](x, torch.empty_like(x), 250, SHIFT=0, MASKED=False)


@pytest.mark.parametrize("shift", [-1, 1])
def test_an_address_off_by_one(shift):
    x = torch.randn(256)
    with pytest.raises(Fault, match="4 bytes at (-4|1024|.1024) of x_ptr, which has 1024"):
        scale_kernel[(2,)](x, torch.empty_like(x), 256, SHIFT=shift, MASKED=True)


def test_a_dropped_barrier(monkeypatch):
    x = torch.randn(1024)
    out = torch.empty_like(x)
    total_kernel[(1,)](x, out, num_warps=4)
    torch.testing.assert_close(out, x + x.sum())

    def without_barriers(ptx):
        whole = parse(ptx)
        nothing = instruction("membar.cta")
        assert any(i.opcode[0] == "bar" for i in whole.instructions)
        kept = tuple(nothing if i.opcode[0] == "bar" else i for i in whole.instructions)
        return dataclasses.replace(whole, instructions=kept)

    monkeypatch.setattr(launch, "program", without_barriers)
    with pytest.raises(Fault, match="race, reads what another warp has just written to shared"):
        total_kernel[(1,)](x, out, num_warps=4)


def test_programs_that_write_to_one_place():
    x, out = torch.randn(128), torch.empty(128)
    overlapping_kernel[(4,)](x, out, STRIDE=32, num_warps=1)
    assert torch.equal(out, x)
    with pytest.raises(Fault, match="race, two warps write different values to out_ptr"):
        overlapping_kernel[(4,)](x, out, STRIDE=16, num_warps=1)


def test_a_sum_that_is_not_atomic():
    out = torch.zeros(1, dtype=torch.int32)
    count_kernel[(9,)](out, out, ATOMIC=True)
    assert out.item() == 9
    with pytest.raises(Fault, match="race"):
        count_kernel[(9,)](out, out, ATOMIC=False)


def test_a_pointer_less_aligned_than_the_kernel_was_told(monkeypatch):
    x, out = torch.randn(1024), torch.empty(1024)
    add = launch.Global.add
    monkeypatch.setattr(launch.Global, "add", lambda self, *given: add(self, *given) + 4)
    with pytest.raises(Fault, match="16 bytes of x_ptr not aligned to 16"):
        total_kernel[(1,)](x, out, num_warps=4)
