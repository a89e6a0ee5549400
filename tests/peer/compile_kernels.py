"""Compiles every shipped kernel configuration without a device and prints a JSON line for each.

Run as a script in a process of its own: the tests beside it interpret the kernels, and a process
does either.
"""

import json
import re
import subprocess
import sys
import tempfile

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from peer.kernels import dots, fused, launch, runs, selection, sums

FLOATS = {"bf16": "*bf16", "fp32": "*fp32"}
ITEM_BYTES = {"bf16": 2, "fp32": 4}
SCALARS = {
    "x_ptr": None,
    "table_ptr": None,
    "down_ptr": None,
    "up_ptr": None,
    "gate_ptr": None,
    "query_ptr": None,
    "keys_ptr": None,
    "rows_ptr": None,
    "out_ptr": None,
    "ids_ptr": "*i32",
    "order_ptr": "*i32",
    "bounds_ptr": "*i32",
    "touched_ptr": "*i64",
    "stairs_ptr": "*i32",
    "scores_ptr": None,
    "weights_ptr": "*fp32",
    "hidden_ptr": "*fp32",
    "gates_ptr": "*fp32",
    "partial_ptr": "*fp32",
    "mean_ptr": "*fp32",
    "square_ptr": "*fp32",
}
REALS = {"rate", "shrink", "mean_keep", "mean_take", "square_keep", "square_take", "scale", "eps"}


def cases():
    """Kernel, constexprs, pointer types that differ, warps (or warps by dtype): what the launchers
    use at the paper's sizes.
    """
    for D in (256, 1024):
        columns = launch.column_block(D, 512)
        rows = launch.rows_at_once(columns)
        tile = {"ROWS": rows, "COLUMNS": columns}
        warps = launch.warps(rows * columns)
        for sorted_pairs in (False, True):
            constants = {"SORTED": sorted_pairs, "PAIRS": rows, "COLUMNS": columns}
            kernel = dots.gathered_dot_kernel
            yield kernel, constants, {"out_ptr": "*fp32"}, launch.warps(2 * rows * columns)
        yield sums.weighted_sum_kernel, tile, {}, warps
        yield runs.pieces_kernel, tile, {}, warps
        for step, columns in runs.STEP_COLUMNS.items():
            columns = launch.column_block(D, columns)
            rows = launch.rows_at_once(columns)
            for listed in (False, True) if step == "none" else (False,):
                finish = {"STEP": step, "LISTED": listed, "COLUMNS": columns}
                pointers = {} if listed else {"touched_ptr": "*i32"}
                constants = {"EXPERTS": runs.EXPERTS_PER_PROGRAM, "ROWS": rows} | finish
                yield runs.runs_kernel, constants, pointers, launch.warps(rows * columns)
                yield runs.combine_kernel, finish, pointers, 4
        columns = triton.next_power_of_2(D)
        rows = launch.rows_at_once(columns)
        for activation, gated in (("gelu", False), ("silu", True), ("relu", False)):
            constants = {"ACTIVATION": activation, "GATED": gated, "ROWS": rows, "COLUMNS": columns}
            yield fused.fused_experts_kernel, constants, {}, launch.warps(rows * columns)
    for K in (16, 32):
        constants = selection.tile(K, 64) | {"NONLINEARITY": "softmax"}
        warps = {dtype: selection.warps(K, size) for dtype, size in ITEM_BYTES.items()}
        yield selection.retrieve_kernel, constants, {"scores_ptr": "*fp32"}, warps


def source(kernel, constants: dict, pointers: dict, dtype: str) -> ASTSource:
    types = SCALARS | pointers
    signature = {}
    for name in kernel.arg_names:
        if name in constants:
            signature[name] = "constexpr"
        elif name.endswith("_ptr"):
            signature[name] = types[name] or FLOATS[dtype]
        else:
            signature[name] = "fp32" if name in REALS else "i32"
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    pointers_at = [i for i, name in enumerate(kernel.arg_names) if name.endswith("_ptr")]
    aligned = {(i,): [["tt.divisibility", 16]] for i in pointers_at}
    return ASTSource(kernel, signature, places, aligned)


def nvidia_usage(ptx: str, capability: int) -> dict[str, int]:
    from triton.backends.nvidia.compiler import get_ptxas

    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        suffix = "a" if capability >= 90 else ""
        command = [get_ptxas(capability).path, "-v", f"--gpu-name=sm_{capability}{suffix}"]
        done = subprocess.run(
            [*command, file.name, "-o", "/dev/null"], capture_output=True, text=True, check=True
        )
    stores, loads = re.search(
        r"(\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr
    ).groups()
    registers = re.search(r"Used (\d+) registers", done.stderr).group(1)
    return {"registers": int(registers), "spilled_bytes": int(stores) + int(loads)}


def amd_usage(assembly: str) -> dict[str, int]:
    def number(name: str) -> int:
        return int(re.search(rf"\.{name}:\s+(\d+)", assembly).group(1))

    # A spilled scalar register goes to lanes of a vector register, not to memory.
    return {
        "registers": number("vgpr_count"),
        "spilled_bytes": 4 * number("vgpr_spill_count") + number("private_segment_fixed_size"),
        "scalars_moved": number("sgpr_spill_count"),
    }


def main(targets: list[str]) -> None:
    for name in targets:
        amd = name.startswith("gfx")
        target = GPUTarget("hip", name, 64) if amd else GPUTarget("cuda", int(name[3:]), 32)
        for kernel, constants, pointers, shared_warps in cases():
            for dtype in FLOATS:
                warps = shared_warps[dtype] if isinstance(shared_warps, dict) else shared_warps
                compiled = triton.compile(
                    source(kernel, constants, pointers, dtype),
                    target=target,
                    options={"num_warps": warps},
                )
                usage = (
                    amd_usage(compiled.asm["amdgcn"])
                    if amd
                    else nvidia_usage(compiled.asm["ptx"], target.arch)
                )
                row = {
                    "target": name,
                    "kernel": kernel.__name__,
                    "dtype": dtype,
                    "constants": constants,
                    "warps": warps,
                    "shared_bytes": compiled.metadata.shared,
                }
                print(json.dumps(row | usage), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
