"""What a baseline declares it can run, it runs: any width, dtype, and under compile and export."""

import math
from fractions import Fraction

import pytest
import torch
from torch.export import Dim, export

from baselines import ExpertChoiceMoE, TopKMoE
from baselines.grouped import by_group, grouped_product, takes_gemm
from suites.budgets.match import COSTS, dense_budget, match
from suites.layers import VARIES, build

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
ENDS = torch.tensor([3, 3, 10, 12], dtype=torch.int32)  # an expert without rows


def operands(dtype: torch.dtype, A: int, B: int) -> tuple[torch.Tensor, torch.Tensor]:
    rows, matrices = torch.randn(12, A), torch.randn(4, A, B)
    return rows.to(dtype).requires_grad_(), matrices.to(dtype).requires_grad_()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("A", "B"), [(16, 8), (16, 10), (6, 8), (5, 3), (12, 20), (1, 1)])
def test_a_product_in_groups_is_a_product_per_group(dtype: torch.dtype, A: int, B: int) -> None:
    rows, matrices = operands(dtype, A, B)
    y = grouped_product(rows, matrices, ENDS)
    grad = torch.randn_like(y)
    y.backward(grad)
    wide = [t.detach().double().requires_grad_() for t in (rows, matrices)]
    starts = [0, *ENDS[:-1].tolist()]
    truth = torch.cat(
        [wide[0][s:e] @ wide[1][i] for i, (s, e) in enumerate(zip(starts, ENDS, strict=True))]
    )
    truth.backward(grad.double())
    tolerance = (
        {"rtol": 2e-2, "atol": 6e-2} if dtype.itemsize == 2 else {"rtol": 1e-5, "atol": 1e-5}
    )
    for got, wanted in ((y, truth), (rows.grad, wide[0].grad), (matrices.grad, wide[1].grad)):
        torch.testing.assert_close(got.double(), wanted, **tolerance)


def test_the_operators_are_sound() -> None:
    torch.library.opcheck(by_group, (*operands(torch.float64, 5, 3), ENDS))


def test_a_second_derivative_is_right() -> None:
    torch.autograd.gradgradcheck(
        lambda rows, matrices: by_group(rows, matrices, ENDS), operands(torch.float64, 5, 3)
    )


@pytest.mark.parametrize("dtype", DTYPES[:3])
@pytest.mark.parametrize("dim", [10, 50, 100, 300])
@pytest.mark.parametrize("options", [{}, {"hidden": 7}, {"capacity_factor": 1.25}])
def test_any_width_runs(dim: int, dtype: torch.dtype, options: dict) -> None:
    layer = TopKMoE(dim, experts=4, **options).to(dtype)
    y, loss = layer(torch.randn(8, dim).to(dtype), with_loss=True)
    (y.float().sum() + loss).backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_gradients_are_the_plain_ones(dtype: torch.dtype) -> None:
    torch._dynamo.reset()
    layer = TopKMoE(16, experts=4).to(dtype)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for tokens in (24, 40):
        found = []
        for call in (compiled, layer):
            layer.zero_grad()
            y, loss = call(
                torch.arange(16.0 * tokens).sin().view(tokens, 16).to(dtype), with_loss=True
            )
            (y.float().square().mean() + loss).backward()
            found.append([parameter.grad for parameter in layer.parameters()])
        torch.testing.assert_close(*found)


@pytest.mark.parametrize("capacity_factor", [None, 1.25])
def test_an_exported_layer_takes_any_number_of_tokens(capacity_factor: float | None) -> None:
    layer = TopKMoE(16, experts=4, capacity_factor=capacity_factor).eval()
    with torch.no_grad():
        exported = export(
            layer,
            (torch.randn(3, 8, 16),),
            dynamic_shapes=({0: Dim.AUTO, 1: Dim.AUTO},),
            strict=False,
        ).module()
        x = torch.randn(2, 5, 16)
        torch.testing.assert_close(exported(x), layer(x))


@pytest.mark.parametrize("dim", [64, 256, 1024])
@pytest.mark.parametrize("kind", COSTS)
def test_the_solver_stays_where_a_grouped_gemm_runs(dim: int, kind: str) -> None:
    found = match("topk_moe", dim, dense_budget(kind, dim, 256, 0.02), 256)
    widths = (dim, found.options["hidden"] or 2 * dim)
    assert all(takes_gemm(dtype, widths) for dtype in DTYPES[:3])


@pytest.mark.parametrize("layer", VARIES)
def test_what_the_solver_proposes_runs(layer: str) -> None:
    for kind in COSTS:
        found = match(layer, 64, dense_budget(kind, 64, 256, 0.02), 256)
        for dtype in (torch.float32, torch.bfloat16):
            module = build(layer, 64, found.options).to(dtype)
            module(torch.randn(16, 64).to(dtype)).sum().backward()


@pytest.mark.parametrize("factor", ["1.1", "1.2", "1.25", "0.7", "1.4", "2.2", "0.1", "1.05"])
def test_slots_are_exact(factor: str) -> None:
    for experts in (4, 10, 16, 100):
        bounded = TopKMoE(8, experts=experts, capacity_factor=float(factor), hidden=8)
        chooser = ExpertChoiceMoE(8, experts=experts, capacity_factor=float(factor), hidden=8)
        for tokens in (5 * experts, 10 * experts, 20 * experts, 100 * experts):
            share = Fraction(factor) * tokens / experts
            assert bounded.capacity(tokens) == math.ceil(2 * share)
            assert chooser.capacity(tokens) == min(tokens, math.ceil(share))
