"""What an operator costs: a FLOP formula for each that multiplies and adds, a reason for each that is free.

A multiply-add is 2 FLOPs here, as in the closed forms and in torch's FlopCounterMode; fvcore counts it 1.
"""

from collections.abc import Callable, Sequence
from math import prod

import peer.costs

Shape = Sequence[int]


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A formula takes an operator's operands in the order of its schema, with shapes in the place of tensors.
Formula = Callable[..., int]


def grouped_mm(left: Shape, right: Shape, *_: object, **__: object) -> int:
    """Rows in groups against (E, K, N), or columns in groups, left (M, K) and right (K, N)."""
    return 2 * prod(left) * right[-1]


def attention(query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
    """Queries (..., L, Q) against keys (..., S, Q), then values (..., S, V) mixed; nothing is masked."""
    return 2 * prod(query) * key[-2] + 2 * prod(query[:-1]) * prod(value[-2:])


def baddbmm(bias: Shape, left: Shape, right: Shape, *_: object, **__: object) -> int:
    """(B, L, M) by (B, M, N); the addition is free."""
    return 2 * prod(left) * right[-1]


def vector_product(left: Shape, right: Shape, **_: object) -> int:
    """(M, N) by (N,), or (N,) by (N,)."""
    return 2 * prod(left)


# Operators that fvcore, FlopCounterMode or both pass over in silence.
FORMULAS: dict[str, Formula] = {
    "aten::_grouped_mm": grouped_mm,
    "aten::baddbmm": baddbmm,
    "baselines::grouped_gradient": grouped_mm,
    "baselines::grouped_product": grouped_mm,
    "aten::dot": vector_product,
    "aten::mv": vector_product,
    "aten::scaled_dot_product_attention": attention,
    **peer.costs.FLOPS,
}

# What one counter cannot see: refused, although the other has a formula.
REFUSED: dict[str, str] = {
    "aten::convolution": "which fvcore cannot trace on the meta device; write it as unfold and einsum",
}

# Products and sums are free one by one, and a dot product together: the census follows them.
PRODUCTS = names("div div_ mul mul_ pow")
SUMS = names("bincount cumsum mean sum")
ADDITIONS = names("add add_ sub sub_")
PUT_BACK = names("embedding_dense_backward index_add index_put scatter_add")
NORMS = names(
    "_native_batch_norm_legit _safe_softmax _softmax _softmax_backward_data batch_norm layer_norm "
    "native_batch_norm native_batch_norm_backward native_layer_norm native_layer_norm_backward "
    "rms_norm softmax"
)

# What the convention of the closed forms leaves out, by reason.
FREE: dict[str, frozenset[str]] = {
    "views, copies and casts move no number through an arithmetic unit": names(
        "_to_copy _unsafe_view alias as_strided cat chunk clone contiguous copy_ detach expand flatten "
        "flip lift_fresh new_empty_strided permute reshape select select_backward slice slice_backward "
        "split squeeze squeeze_ stack t to transpose unbind unflatten unsqueeze values view"
    ),
    "creation": names(
        "arange bernoulli_ empty empty_like fill_ new_empty new_ones new_zeros ones ones_like scalar_tensor "
        "sparse_compressed_tensor sparse_csr_tensor tril zeros zeros_like"
    ),
    "comparisons, sorts and counts of integers": names(
        "argsort clamp floor_divide le lt nonzero nonzero_numpy numel sort topk"
    ),
    "lookups": names("embedding gather index index_select scatter where"),
    "sums of rows put back where they were looked up; rows that were scaled stay rows": PUT_BACK,
    "elementwise functions, a constant number of operations per entry": names(
        "gelu gelu_backward neg relu rsqrt sigmoid sigmoid_backward silu silu_backward "
        "threshold_backward"
    )
    | PRODUCTS
    | ADDITIONS,
    "norms and softmax, a constant number of operations per entry": NORMS,
    "sums without products; the census refuses one of a product": SUMS,
}


def free_names() -> frozenset[str]:
    return frozenset(name for reason in FREE.values() for name in reason)
