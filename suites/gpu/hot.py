"""One forward and backward at the paper's sizes, for a profiler: `ncu … python -m suites.gpu.hot`."""

import sys
from typing import Any

import torch

from peer import PEER

SIZES = ((256, 8192), (1024, 8192))
EXPERTS = 1024**2


def main(tiny: bool) -> None:
    sizes, experts, device = (((8, 3),), 64, "cpu") if tiny else (SIZES, EXPERTS, "cuda")
    dtype = torch.float32 if tiny else torch.bfloat16  # the interpreter is exact in float32 alone
    for dim, tokens in sizes:
        torch.manual_seed(0)
        with torch.device(device):
            few: dict[str, Any] = {"heads": 1, "topk": 2} if tiny else {}
            layer = PEER(dim, experts=experts, impl="triton", **few)
            x = torch.randn(tokens, dim, dtype=dtype)
        layer.to(dtype).table_grad = "sparse"  # a dense gradient's zeros are no kernel of ours
        layer(x).sum().backward()
        print(f"d={dim}, {tokens} tokens: forward and backward launched")


if __name__ == "__main__":
    main("--tiny" in sys.argv[1:])
