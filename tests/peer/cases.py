"""Inputs shared by the tests of the operation, and the yardstick: error against float64 beside
eager's.
"""

import torch
from torch import Tensor

from peer import functional, reference

EPSILON = {torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3, torch.float64: 1e-12}


def pairs(kind: str, T: int, P: int, N: int) -> Tensor:
    """Expert ids (T, P): near uniform as at init, skewed, all the same, or each expert twice per
    token.
    """
    if kind == "uniform":
        return torch.randint(N, (T, P), dtype=torch.int32)
    if kind == "skewed":
        return (N * torch.rand(T, P) ** 8).int().clamp(max=N - 1)
    if kind == "same":
        return torch.full((T, P), N // 2, dtype=torch.int32)
    half = torch.randint(N, (T, (P + 1) // 2), dtype=torch.int32)
    return torch.cat((half, half), 1)[:, :P]


def experts_inputs(T, P, D, N, dtype, device, glu=False, kind="uniform"):
    def random(*shape, scale=1.0):
        return (torch.randn(*shape) * scale).to(device, dtype)

    inputs = {
        "x": random(T, D),
        "ids": pairs(kind, T, P, N).to(device),
        "scores": torch.rand(T, P).to(device, dtype),
        "down": random(N, D, scale=D**-0.5),
        "up": random(N, D),
        "gate": random(N, D, scale=D**-0.5) if glu else None,
    }
    return inputs, random(T, D)


def forward_and_gradients(function, inputs: dict, grad: Tensor, dtype=None) -> dict[str, Tensor]:
    """y and the gradient of every floating input, by name, in float64 on the CPU."""
    leaves = {
        name: t.detach().to(dtype or t.dtype).requires_grad_()
        for name, t in inputs.items()
        if t is not None and t.is_floating_point()
    }
    y = function(**{name: leaves.get(name, t) for name, t in inputs.items()})
    y.backward(grad.to(y.dtype))
    results = {"y": y} | {name: leaf.grad for name, leaf in leaves.items()}
    return {name: t.detach().to_dense().double().cpu() for name, t in results.items()}


def reference_experts(activation):
    return lambda x, ids, scores, down, up, gate: reference.experts(
        x, ids, scores, down, up, gate, activation
    )


def named_experts(activation, impl, **options):
    return lambda x, ids, scores, down, up, gate: functional.experts(
        x, ids, scores, down, up, gate, activation=activation, impl=impl, **options
    )


def assert_near_truth(got: dict, eager: dict, truth: dict, dtype: torch.dtype, factor=2.0) -> None:
    """|got − truth| ≤ factor · |eager − truth| + ε, in the largest entry, for every name."""
    assert got.keys() == truth.keys()
    for name, true in truth.items():
        if true.numel() == 0:
            continue
        assert torch.isfinite(got[name]).all(), name
        scale = true.abs().max().item() + 1e-30
        error = (got[name] - true).abs().max().item() / scale
        bound = factor * (eager[name] - true).abs().max().item() / scale + EPSILON[dtype]
        assert error <= bound, f"{name}: relative error {error:.2e}, allowed {bound:.2e}"


def brute_force(query_THQ: Tensor, sub_keys: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """The best of all S² experts in float64: scores and ids (T, H, topk), ties by the lowest id."""
    query = query_THQ.double().unflatten(-1, (2, -1))
    keys = sub_keys.double()
    equation = "thcq,chsq->cths" if keys.dim() == 4 else "thcq,csq->cths"
    first, second = torch.einsum(equation, query, keys)
    return reference.top((first.unsqueeze(-1) + second.unsqueeze(-2)).flatten(-2), topk)
