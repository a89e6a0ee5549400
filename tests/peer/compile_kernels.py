"""Compiles what the operators launch at the paper's sizes on a target, and prints a JSON line for each.

Run as a script in a process of its own: the tests beside it interpret the kernels, and a process
does either.
"""

import itertools
import json
import re
import sys

import torch
from torch import Tensor

from peer import functional
from peer.optim import RowAdagrad, TouchedAdamW
from suites.binary import sass
from suites.binary.launches import Launch, stand_in

DTYPES = (torch.bfloat16, torch.float32)
# Experts, tokens: enough pairs for one program per token, and runs too long for one program.
N, T, HEADS, S = 64, 2048, 2, 256
NARROW = re.compile(r"ld\.global[\w.:]*\.[bu]16 ")  # two bytes at a time
STEPS = {
    "dense": lambda tables: "dense",
    "sparse": lambda tables: "sparse",
    "adamw": TouchedAdamW,
    "row_adagrad": RowAdagrad,
}


def experts(dtype: torch.dtype, D: int, activation: str, gated: bool, step: str, tokens: int):
    """Forward and backward, with whichever gradient of the tables."""
    x = torch.zeros(tokens, D, dtype=dtype, requires_grad=True)
    scores = torch.zeros(tokens, 16, dtype=dtype, requires_grad=True)
    ids = (torch.arange(tokens * 16, dtype=torch.int32) % N).view(tokens, 16)
    tables: list[Tensor] = [torch.zeros(N, D, dtype=dtype, requires_grad=True) for _ in "dug"]
    tables = tables[: 2 + gated]
    options = {"activation": activation, "impl": "triton", "table_grad": STEPS[step](tables)}
    functional.experts(x, ids, scores, *tables, **options).sum().backward()


def launch_few() -> None:
    """Every kernel in bfloat16 as the paper's layer launches it."""
    for D in (256, 1024):
        for step in ("dense", "adamw"):
            experts(torch.bfloat16, D, "gelu", False, step, T)
        decode(torch.bfloat16, D)
    retrieve(torch.bfloat16, 16)


def launch_everything() -> None:
    for dtype, D in itertools.product(DTYPES, (256, 1024)):
        for step in STEPS:
            experts(dtype, D, "gelu", False, step, T)
        for activation, gated in (("silu", True), ("relu", False)):
            experts(dtype, D, activation, gated, "dense", T)
        decode(dtype, D)
        table = torch.zeros(N, D, dtype=dtype, requires_grad=True)
        ids = torch.zeros(T, 16, dtype=torch.int32)
        weights = torch.zeros(T, 16, dtype=dtype, requires_grad=True)
        functional.bag(ids, weights, table, impl="triton").sum().backward()
    experts(torch.bfloat16, 1032, "gelu", False, "dense", T)  # 8 divides it, 16 does not
    for dtype, topk in ((torch.float32, 16), *((torch.bfloat16, topk) for topk in (2, 16, 32))):
        retrieve(dtype, topk)


def retrieve(dtype: torch.dtype, topk: int) -> None:
    query, keys = (
        torch.zeros(*shape, dtype=dtype, requires_grad=True)
        for shape in ((T, HEADS, 128), (2, S, 64))
    )
    scores, _ = functional.retrieve(query, keys, topk, impl="triton")
    scores.sum().backward()


def decode(dtype: torch.dtype, D: int) -> None:
    """One token, whose pairs are shared among programs."""
    tables = [torch.zeros(N, D, dtype=dtype) for _ in "du"]
    x, ids = torch.zeros(1, D, dtype=dtype), torch.zeros(1, 128, dtype=torch.int32)
    functional.experts(x, ids, torch.zeros(1, 128, dtype=dtype), *tables, impl="triton")


def usage(launch: Launch) -> dict[str, int]:
    if "amdgcn" not in launch.kernel.asm:
        binary = sass.read(launch.kernel.asm["cubin"])
        return {"registers": binary.registers, "spilled_bytes": binary.stack_bytes}

    def number(name: str) -> int:
        return int(re.search(rf"\.{name}:\s+(\d+)", launch.kernel.asm["amdgcn"]).group(1))

    # A spilled scalar register goes to lanes of a vector register, not to memory.
    return {
        "registers": number("vgpr_count"),
        "spilled_bytes": 4 * number("vgpr_spill_count") + number("private_segment_fixed_size"),
    }


def main(target: str, chosen: str) -> None:
    seen = set()

    def on_launch(launch: Launch) -> None:
        if launch.kernel.hash not in seen:
            seen.add(launch.kernel.hash)
            row = {
                "target": target,
                "kernel": launch.name,
                "constants": {name: str(value) for name, value in launch.constants.items()},
                "warps": launch.warps,
                "shared_bytes": launch.shared_bytes,
                "narrow_loads": len(NARROW.findall(launch.kernel.asm.get("ptx", ""))),
            }
            print(json.dumps(row | usage(launch)), flush=True)

    stand_in(target, on_launch)
    {"few": launch_few, "everything": launch_everything}[chosen]()


if __name__ == "__main__":
    main(*sys.argv[1:])
