"""The machine on PTX written by hand: what it computes, and what it refuses."""

import numpy as np
import pytest
import torch

from tests.peer.machine import arithmetic
from tests.peer.machine.grid import run
from tests.peer.machine.memory import Fault, Global
from tests.peer.machine.numbers import decode, encode
from tests.peer.machine.ptx import Address, Unsupported, instruction, parse

HEAD = """
.version 8.0
.target sm_90a
.extern .shared .align 16 .b8 global_smem[];
.visible .entry kernel(
    .param .u64 .ptr .global .align 1 kernel_param_0,
    .param .u64 kernel_param_1
)
.reqntid 64
{
    .reg .pred %p<9>;
    .reg .b32 %r<9>;
    .reg .b64 %rd<9>;
    ld.param.b64 %rd1, [kernel_param_0];
    ld.param.b64 %rd2, [kernel_param_1];
    mov.u32 %r1, %tid.x;
    mad.wide.u32 %rd3, %r1, 4, %rd1;
    mad.wide.u32 %rd4, %r1, 4, %rd2;
    shl.b32 %r2, %r1, 2;
"""


def executed(body: str, *tensors: torch.Tensor, blocks: int = 1) -> None:
    """`body` with 64 threads: %rd3 and %rd4 are the thread's element of two tensors of four bytes,
    %r1 the thread, %r2 its four bytes in shared memory.
    """
    program = parse(f"{HEAD}{body}\nret;\n}}\n")
    memory = Global()
    pairs = enumerate(tensors)
    arguments = {f"kernel_param_{i}": memory.add(f"tensor {i}", tensor) for i, tensor in pairs}
    run(program, arguments, memory, 256, 64, blocks)


@pytest.fixture
def x():
    return torch.randn(64)


@pytest.fixture
def out():
    return torch.full((64,), torch.nan)


def test_lanes_that_part_meet_again(x, out):
    executed(
        """
        ld.global.f32 %r3, [%rd3];
        setp.lt.u32 %p1, %r1, 20;
        @%p1 bra $less;
        add.f32 %r3, %r3, 0f3F800000;
        bra.uni $after;
        $less:
        mul.f32 %r3, %r3, 0f40000000;
        $after:
        shfl.sync.bfly.b32 %r4, %r3, 16, 31, -1;
        st.global.b32 [%rd4], %r4;
        """,
        x,
        out,
    )
    parted = torch.where(torch.arange(64) < 20, 2 * x, x + 1)
    assert torch.equal(out, parted[torch.arange(64) ^ 16])


def test_a_loop_runs_as_often_as_each_lane_wants(x):
    counts = torch.zeros(64, dtype=torch.int32)
    executed(
        """
        mov.b32 %r3, 0;
        $again:
        add.s32 %r3, %r3, 1;
        setp.lt.u32 %p1, %r3, %r1;
        @%p1 bra $again;
        st.global.b32 [%rd4], %r3;
        """,
        x,
        counts,
    )
    assert counts.tolist() == [max(1, i) for i in range(64)]


def test_a_barrier_makes_shared_memory_safe(x, out):
    exchange = """
        ld.global.b32 %r3, [%rd3];
        st.shared.b32 [%r2], %r3;
        {barrier}
        xor.b32 %r4, %r2, 128;
        ld.shared.b32 %r5, [%r4];
        st.global.b32 [%rd4], %r5;
    """
    executed(exchange.format(barrier="bar.sync 0;"), x, out)
    assert torch.equal(out, x.roll(32))
    with pytest.raises(Fault, match="reads what another warp has just written to shared memory"):
        executed(exchange.format(barrier="bar.warp.sync -1;"), x, out)


def test_what_was_read_is_not_overwritten_before_a_barrier(x, out):
    with pytest.raises(Fault, match="overwrites what another warp has read of shared memory"):
        executed(
            """
            st.shared.b32 [%r2], %r1;
            bar.sync 0;
            xor.b32 %r4, %r2, 128;
            ld.shared.b32 %r5, [%r4];
            st.shared.b32 [%r2], %r5;
            """,
            x,
            out,
        )


def test_blocks_are_never_ordered(x, out):
    with pytest.raises(Fault, match="race, two warps write different values to tensor 1"):
        executed("mov.u32 %r3, %ctaid.x; st.global.b32 [%rd4], %r3;", x, out, blocks=2)


def test_a_barrier_that_some_threads_do_not_reach(x, out):
    with pytest.raises(Fault, match="threads wait for one another at: bar.sync 0; bar.sync 0"):
        executed(
            """
            setp.lt.u32 %p1, %r1, 32;
            @%p1 bra $there;
            bar.sync 0;
            ret;
            $there:
            bar.sync 0;
            """,
            x,
            out,
        )


def test_threads_that_returned_are_not_waited_for(x, out):
    executed(
        """
        setp.lt.u32 %p1, %r1, 32;
        @%p1 ret;
        bar.sync 0;
        st.global.b32 [%rd4], %r1;
        """,
        x,
        out,
    )
    assert out[:32].isnan().all()
    assert out[32:].view(torch.int32).tolist() == list(range(32, 64))


def test_shared_memory_ends(x, out):
    with pytest.raises(Fault, match=r"4 bytes at \+256 of shared memory, which has 256"):
        executed("st.shared.b32 [%r2+4], %r1;", x, out)


def test_an_address_of_no_buffer(x, out):
    with pytest.raises(Fault, match="is of no buffer"):
        executed("mov.b64 %rd5, 64; ld.global.b32 %r3, [%rd5];", x, out)


COPY = """
    cp.async.ca.shared.global [%r2+0], [%rd3+0], 0x4;
    cp.async.commit_group;
    {wait}
    {barrier}
    xor.b32 %r4, %r2, {other};
    ld.shared.b32 %r5, [%r4];
    st.global.b32 [%rd4], %r5;
"""


def test_an_asynchronous_copy(x, out):
    wait, barrier = "cp.async.wait_group 0x0;", "bar.sync 0;"
    executed(COPY.format(wait=wait, barrier=barrier, other=128), x, out)
    assert torch.equal(out, x.roll(32))
    executed(COPY.format(wait=wait, barrier="", other=0), x, out)  # a thread's own
    assert torch.equal(out, x)
    with pytest.raises(Fault, match="before cp.async was waited for"):
        executed(COPY.format(wait="", barrier=barrier, other=128), x, out)
    with pytest.raises(Fault, match="before cp.async was waited for"):
        executed(COPY.format(wait="cp.async.wait_group 0x1;", barrier=barrier, other=0), x, out)
    with pytest.raises(Fault, match="reads what another warp has just written"):
        executed(COPY.format(wait=wait, barrier="", other=128), x, out)


def test_an_asynchronous_copy_of_nothing_is_zero(x, out):
    executed(
        """
        mov.b32 %r3, 0;
        cp.async.cg.shared.global [%r2+0], [%rd3+0], 0x4, %r3;
        cp.async.wait_all;
        ld.shared.b32 %r5, [%r2];
        st.global.b32 [%rd4], %r5;
        """,
        x,
        out,
    )
    assert torch.equal(out, torch.zeros(64))


def test_atomics(x):
    total = torch.zeros(64, dtype=torch.int32)
    executed(
        """
        atom.global.relaxed.gpu.add.u32 %r3, [%rd2], 1;
        atom.shared.cta.max.s32 %r4, [global_smem], %r1;
        """,
        x,
        total,
        blocks=3,
    )
    assert total.tolist() == [192] + [0] * 63


@pytest.mark.parametrize("body", ["wgmma.fence.sync.aligned;", "add.e4m3 %r3, %r1, %r1;"])
def test_what_it_does_not_know_it_says(body, x, out):
    with pytest.raises(Unsupported):
        executed(body, x, out)


def test_operands():
    found = instruction("@!%p3 ld.global.v2.b32 {%r1, %r2}, [%rd4+-16]")
    assert (found.guard, found.unless) == ("%p3", True)
    assert found.opcode == ("ld", "global", "v2", "b32")
    assert found.operands == (("%r1", "%r2"), Address("%rd4", -16))


@pytest.mark.parametrize("kind", ["bf16", "f16"])
def test_rounding_is_torchs(kind):
    values = torch.cat((torch.randn(1000), torch.tensor([0.0, -0.0, torch.inf, 1e-40, 65520.0])))
    dtype = {"bf16": torch.bfloat16, "f16": torch.float16}[kind]
    with np.errstate(over="ignore"):
        raw = encode(kind, values.numpy())
    assert torch.equal(torch.from_numpy(raw.view(np.int16)), values.to(dtype).view(torch.int16))
    assert torch.equal(torch.from_numpy(decode(kind, raw)), values.to(dtype).float())


def test_integers():
    a, b = np.array([7, -7, 7, -7], np.int32), np.array([2, 2, -2, -2], np.int32)
    assert arithmetic.result(("div", "s32"), [a, b]).tolist() == [3, -3, -3, 3]
    assert arithmetic.result(("rem", "s32"), [a, b]).tolist() == [1, -1, 1, -1]
    high = arithmetic.result(("mul", "hi", "u32"), [np.array([2**31], np.uint32)] * 2)
    assert high.tolist() == [2**30]
    wide = arithmetic.result(("mul", "wide", "s32"), [a, b])
    assert wide.dtype == np.int64
    assert wide.tolist() == [14, -14, -14, 14]
    amount = np.array([31, 32, 40, 1], np.uint32)
    assert arithmetic.shift("shr", a, amount).tolist() == [0, -1, 0, -4]
    assert arithmetic.shift("shl", a.view(np.uint32), amount)[1:3].tolist() == [0, 0]
    position, length = np.array([4], np.uint32), np.array([4], np.uint32)
    assert arithmetic.field(np.array([0xA5], np.int32), position, length).tolist() == [-6]
    assert arithmetic.field(np.array([0xA5], np.uint32), position, length).tolist() == [10]


def test_comparisons_with_nan():
    a, b = np.array([1, np.nan], np.float32), np.array([2, 2], np.float32)
    assert arithmetic.compare("lt", a, b).tolist() == [True, False]
    assert arithmetic.compare("ltu", a, b).tolist() == [True, True]
    assert arithmetic.compare("ne", a, b).tolist() == [True, False]
    assert arithmetic.compare("nan", a, b).tolist() == [False, True]


def test_conversion_stays_within_the_integers():
    values = np.array([1.5, 2.5, -1.5, 1e20, -1e20, np.nan], np.float32)
    nearest = arithmetic.converted(("cvt", "rni", "s32", "f32"), values)
    assert nearest.tolist() == [2, 2, -2, 2**31 - 1, -(2**31), 0]
    assert arithmetic.converted(("cvt", "rzi", "u32", "f32"), values)[2] == 0
