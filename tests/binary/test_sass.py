import pytest

from suites.binary import sass

LISTING = """
 Function kernel:
  REG:69 STACK:8 SHARED:1024 LOCAL:0 CONSTANT[0]:632 TEXTURE:0 SURFACE:0 SAMPLER:0
        /*0000*/                   LDC R1, c[0x0][0x28] ;          /* 0x00000a00ff017b82 */
        /*0010*/              @!P0 LDG.E R4, desc[UR14][R2.64] ;   /* 0x0000000e02048981 */
        /*0020*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;   /* 0x0000000000007b1d */
        /*0030*/              @!P0 BRA 0x00c0 ;                    /* 0x0000250000008947 */
        /*0040*/               @P1 LDG.E.128 R16, [R22.64] ;       /* 0x0000000a16101981 */
        /*0050*/               @P1 LDG.E.128 R20, [R26.64] ;       /* 0x0000000a1a141981 */
        /*0060*/                   LDG.E.U16 R62, [R56.64] ;       /* 0x0000000a383e8981 */
        /*0070*/                   SHFL.BFLY PT, R3, R2, 0x1, 0x1f ;
        /*0080*/                   BRA 0x70 ;
        /*0090*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*00a0*/                   BRA.U !UP0, 0x40 ;
        /*00b0*/               @P2 EXIT ;
        /*00c0*/                   EXIT ;
        /*00d0*/                   BRA 0xd0;
"""


def test_reads_a_listing():
    binary = sass.parse(LISTING)
    assert (len(binary.instructions), binary.registers, binary.stack_bytes) == (14, 69, 8)
    assert [len(loop) for loop in binary.loops()] == [2, 7]
    loop = binary.row_loop()
    assert len(loop) == 7
    assert sass.loaded_bytes(loop) == 34
    assert sass.row_load_bytes(loop) == 16
    assert binary.barriers_in_loops() == 1


@pytest.mark.parametrize(
    ("opcode", "size"),
    [
        ("LDG.E", 4),
        ("LDG.E.64", 8),
        ("LDG.E.U16.CONSTANT", 2),
        ("LDG.E.EL.128", 16),
        ("LDGSTS.E.BYPASS.128", 16),
        ("LDS.128", 0),
        ("STG.E.128", 0),
    ],
)
def test_width_of_a_load(opcode, size):
    assert sass.Instruction(0, opcode, "").load_bytes == size


def test_narrow_loads_that_carry_the_rows_are_seen():
    loads = [sass.Instruction(16 * i, "LDG.E.U16", "") for i in range(16)]
    assert sass.row_load_bytes((sass.Instruction(0, "LDG.E.128", ""), *loads)) == 2


@pytest.mark.parametrize(
    ("registers", "warps", "shared_bytes", "blocks"),
    [
        (69, 4, 2048, 7),  # 72 · 128 registers a block
        (32, 8, 0, 8),  # 64 warps
        (16, 1, 0, 32),  # 32 blocks
        (32, 4, 48 * 1024, 4),  # shared memory
    ],
)
def test_what_a_multiprocessor_holds(registers, warps, shared_bytes, blocks):
    binary = sass.Binary((), registers, 0)
    assert binary.resident_blocks(warps, shared_bytes, 227 * 1024) == blocks


def test_no_listing():
    with pytest.raises(ValueError, match="no code in what cuobjdump says"):
        sass.parse("cuobjdump info: no cubin")


BRANCHES = """
  REG:9 STACK:0 SHARED:0 LOCAL:0
        /*0000*/                   IADD3 R1, R1, 0x1 ;
        /*0010*/                   LDG.E.128 R4, [R2.64] ;
        /*0020*/               @P0 BRA 0x0080 ;
        /*0030*/               @P1 BRA 0x0060 ;
        /*0040*/                   STG.E [R2.64], R4 ;
        /*0050*/                   BRA 0x0080 ;
        /*0060*/                   STG.E [R2.64], R5 ;
        /*0070*/                   STG.E [R2.64], R6 ;
        /*0080*/                   IADD3 R2, R2, 0x10 ;
        /*0090*/               @P2 BRA 0x0010 ;
        /*00a0*/                   EXIT ;
"""


def test_a_trip_takes_one_of_two_ways():
    """Past both stores, or by one of the two alternatives, never by both."""
    binary = sass.parse(BRANCHES)
    (loop,) = binary.loops()
    assert len(loop) == 9
    assert sass.trip(loop) == (4, 7)
    assert binary.issued(trips=3) == 11 + 2 * 9
