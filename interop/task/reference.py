"""The definition in eager torch, inputs of a case, and the judge: float64 truth, eager error as yardstick."""

import torch
from definition import experts as define
from task import input_t, output_t
from torch import Tensor

TOKENS_AT_ONCE = 256  # the definition holds (tokens, pairs, dim)
ROUNDING = 8e-3  # of bfloat16, against the largest entry
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def ref_kernel(data: input_t) -> output_t:
    x, ids, scores, down, up = data
    parts = zip(*(tensor.split(TOKENS_AT_ONCE) for tensor in (x, ids, scores)), strict=True)
    return torch.cat([define(*part, down, up, None, "gelu") for part in parts])


def generate_input(
    tokens: int, pairs: int, experts: int, dim: int, routing: str, seed: int
) -> input_t:
    """Outputs of unit variance, as the layer gives at initialisation."""
    generator = torch.Generator(DEVICE).manual_seed(seed)

    def normal(*shape: int, std: float = 1.0) -> Tensor:
        drawn = torch.randn(*shape, generator=generator, device=DEVICE) * std
        return drawn.to(torch.bfloat16)

    ids = torch.rand(tokens, pairs, generator=generator, device=DEVICE)
    ids = {"uniform": ids, "skewed": ids**8, "same": torch.full_like(ids, 0.5)}[routing]
    ids = (ids * experts).int().clamp(max=experts - 1)
    scores = torch.rand(tokens, pairs, generator=generator, device=DEVICE).softmax(-1)
    x, down = normal(tokens, dim), normal(experts, dim, std=dim**-0.5)
    up = normal(experts, dim, std=pairs**0.5)
    return x, ids, scores.to(torch.bfloat16), down, up


def check_implementation(data: input_t, output: output_t) -> tuple[bool, str]:
    """Whether `output` is as near to the truth as it must be, and what it lacks."""
    x = data[0]
    if output.shape != x.shape or output.dtype != x.dtype:
        return False, (
            f"y must be {tuple(x.shape)} {x.dtype}; got {tuple(output.shape)} {output.dtype}"
        )
    wide = (tensor if tensor.dtype == torch.int32 else tensor.double() for tensor in data)
    truth = ref_kernel(tuple(wide))
    scale = truth.abs().max()
    error, eager = ((y - truth).abs().max() / scale for y in (output, ref_kernel(data)))
    allowed = 2 * eager + ROUNDING
    if not error <= allowed:  # a NaN is no error below it
        return False, f"relative error {error:.2e}, allowed {allowed:.2e}"
    return True, ""
