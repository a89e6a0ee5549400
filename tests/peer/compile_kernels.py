"""Compiles what the launchers would launch on a GPU, without one, and prints a JSON line for each.

The launchers run on CPU tensors under a driver that names a GPU: Triton specialises every argument
as it would there, compiles, and the launch itself is left out. Run as a script in a process of its
own: the tests beside it interpret the kernels, and a process does either.
"""

import json
import re
import subprocess
import sys
import tempfile

import torch
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from peer import kernels
from peer.optim import AdamWStep, RowAdagradStep

T, P, N = 64, 128, 4096
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


class Named(DriverBase):
    """A driver that knows its target and nothing else."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target

    @classmethod
    def is_active(cls) -> bool:
        return True

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def map_python_to_cpp_type(self, kind: str) -> str:
        return kind

    def get_benchmarker(self):
        raise NotImplementedError

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


def record(target: GPUTarget) -> list:
    """From now on a launch compiles for `target` and joins the list returned instead of running."""
    driver.set_active(Named(target))
    launches = []
    run = JITFunction.run

    def compiled(self, *args, grid, warmup, **options):
        launches.append(run(self, *args, grid=grid, warmup=True, **options))
        return launches[-1]

    JITFunction.run = compiled
    return launches


def launch_experts(D: int, dtype: torch.dtype, glu: bool) -> None:
    def zeros(*shape, kind=dtype):
        return torch.zeros(shape, dtype=kind)

    ids = zeros(T, P, kind=torch.int32)
    x, scores, table, gate = zeros(T, D), zeros(T, P), zeros(N, D), zeros(N, D) if glu else None
    hidden, gates = (zeros(T, P, kind=torch.float32) for _ in range(2))
    gates = gates if glu else gates.new_empty(0)
    activation = "silu" if glu else "gelu"
    order = experts = ids.flatten()
    kernels.fused_experts(x, ids, scores, table, table, gate, activation)
    for tokens in (x, zeros(4096, D)):  # few tokens share their pairs among programs
        rows = tokens.shape[0]
        many = zeros(rows, P, kind=torch.int32)
        kernels.weighted_sum(
            zeros(rows, P, kind=torch.float32), table, many, (hidden, gate) if glu else None
        )
    pairs = scores, table, order, experts
    kernels.pair_gradients(x, *pairs, hidden, gates, activation)
    for touched in (None, torch.arange(3)):
        kernels.experts_gradients(
            x, x, scores, table, gate, order, experts, touched, hidden, gates, activation
        )
        kernels.bag_gradients(x, *pairs, touched, True, True)
    kernels.bag_gradients(x, *pairs, None, True, False)
    wide = zeros(N, D, kind=torch.float32)
    settings = {"lr": 0.1, "eps": 1e-8}
    for step in (
        AdamWStep(
            mean=wide,
            square=wide,
            step=torch.ones(()),
            betas=(0.9, 0.999),
            weight_decay=0.1,
            **settings,
        ),
        RowAdagradStep(square=wide[:, 0].contiguous(), **settings),
    ):
        kernels.update_rows(table, hidden, x, order, experts, step)


def launch_router(topk: int, dtype: torch.dtype) -> None:
    query, keys = torch.zeros(T, 8, 128, dtype=dtype), torch.zeros(2, 1024, 64, dtype=dtype)
    scores, ids = kernels.retrieve(query, keys, topk, "softmax")
    ids.zero_()
    kernels.retrieve_gradients(scores, scores, ids, query, keys, "softmax", True)


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
    (name,) = targets
    amd = name.startswith("gfx")
    target = GPUTarget("hip", name, 64) if amd else GPUTarget("cuda", int(name[3:]), 32)
    launches = record(target)
    for dtype, kind in DTYPES.items():
        # float32 differs in the width of its loads and in its products alone.
        widths = ((256, True), (1024, False), (1032, False), (1024, True), (256, False))
        topks = (16, 2, 32)
        if dtype == "fp32":
            widths, topks = widths[:2], topks[:1]
        cases = [(launch_experts, f"d={D} glu={glu}", (D, kind, glu)) for D, glu in widths]
        cases += [(launch_router, f"topk={K}", (K, kind)) for K in topks]
        for launcher, what, arguments in cases:
            launches.clear()
            launcher(*arguments)
            for compiled in {launched.hash: launched for launched in launches}.values():
                usage = (
                    amd_usage(compiled.asm["amdgcn"])
                    if amd
                    else nvidia_usage(compiled.asm["ptx"], target.arch)
                )
                row = {
                    "target": name,
                    "kernel": compiled.metadata.name,
                    "case": f"{dtype} {what}",
                    "warps": compiled.metadata.num_warps,
                    "shared_bytes": compiled.metadata.shared,
                    "narrow_loads": len(
                        re.findall(r"ld\.global[\w.:]*\.[bu]16 ", compiled.asm.get("ptx", ""))
                    ),
                }
                print(json.dumps(row | usage), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
