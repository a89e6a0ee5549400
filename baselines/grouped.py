"""A product in groups: rows sorted by expert, each group with the matrix of its expert."""

import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.library import custom_op

from peer.functional import check_no_tangent

GEMM_ROW_BYTES = 16  # a row of torch's grouped GEMM is a whole number of these
GEMM_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
TRACED_GEMM_DTYPES = (torch.bfloat16,)  # for which it has a meta kernel


def grouped_product(rows: Tensor, matrices: Tensor, ends_E: Tensor) -> Tensor:
    """Rows (R, A), sorted into E groups that end at ends_E int32, times matrices (E, A, B) → (R, B).

    One grouped GEMM where torch has it. Widths that are not whole 16 bytes, float64, and all but
    bfloat16 under `torch.compile` and `torch.export` take a product per group, which waits for a GPU.
    """
    if takes_gemm(rows.dtype, matrices.shape[1:]):
        return F.grouped_mm(rows, matrices, offs=ends_E)
    check_no_tangent("a product per group", rows, matrices)
    return by_group(rows, matrices, ends_E)


def takes_gemm(dtype: torch.dtype, widths: tuple[int, ...]) -> bool:
    known = TRACED_GEMM_DTYPES if torch.compiler.is_compiling() else GEMM_DTYPES
    return dtype in known and all(w * dtype.itemsize % GEMM_ROW_BYTES == 0 for w in widths)


@custom_op("baselines::grouped_product", mutates_args=())
def by_group(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    out = rows.new_empty(rows.shape[0], matrices.shape[2])
    for some, matrix in zip(groups(ends), matrices, strict=True):
        out[some] = rows[some] @ matrix
    return out


@custom_op("baselines::grouped_gradient", mutates_args=())
def gradient_by_group(rows: Tensor, grad: Tensor, ends: Tensor) -> Tensor:
    """Of the matrices (E, A, B): rows (R, A) and gradient (R, B) of one group, multiplied; 0 without rows."""
    return torch.stack([rows[some].t() @ grad[some] for some in groups(ends)])


def groups(ends: Tensor) -> Iterator[slice]:
    return itertools.starmap(slice, itertools.pairwise([0, *ends.tolist()]))


@by_group.register_fake
def _(rows, matrices, ends):
    return rows.new_empty(rows.shape[0], matrices.shape[2])


@gradient_by_group.register_fake
def _(rows, grad, ends):
    return rows.new_empty(ends.shape[0], rows.shape[1], grad.shape[1])


def save(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def product_gradients(ctx, grad):
    rows, matrices, ends = ctx.saved_tensors
    drows = by_group(grad, matrices.transpose(1, 2), ends) if ctx.needs_input_grad[0] else None
    dmatrices = gradient_by_group(rows, grad, ends) if ctx.needs_input_grad[1] else None
    return drows, dmatrices, None


def gradient_gradients(ctx, grad_EAB):
    rows, grad, ends = ctx.saved_tensors
    return by_group(grad, grad_EAB.transpose(1, 2), ends), by_group(rows, grad_EAB, ends), None


by_group.register_autograd(product_gradients, setup_context=save)
gradient_by_group.register_autograd(gradient_gradients, setup_context=save)
