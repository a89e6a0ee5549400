"""What an operator costs: a FLOP formula for each that multiplies and adds, a reason for each that is free.

A multiply-add is 2 FLOPs here, as in the closed forms and in torch's FlopCounterMode; fvcore counts it 1.
"""

from collections.abc import Callable, Sequence
from math import prod

import peer.costs

Shape = Sequence[int]

# A formula takes an operator's operands in the order of its schema, with shapes in the place of tensors.
Formula = Callable[..., int]


def grouped_mm(left: Shape, right: Shape, *_: object, **__: object) -> int:
    """Rows in groups against (E, K, N), or columns in groups, left (M, K) and right (K, N)."""
    return 2 * prod(left) * right[-1]


def attention(query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
    """Queries (..., L, Q) against keys (..., S, Q), then values (..., S, V) mixed; nothing is masked."""
    return 2 * prod(query) * key[-2] + 2 * prod(query[:-1]) * prod(value[-2:])


# Operators that fvcore, FlopCounterMode or both pass over in silence.
FORMULAS: dict[str, Formula] = {
    "aten::_grouped_mm": grouped_mm,
    "aten::scaled_dot_product_attention": attention,
    **peer.costs.FLOPS,
}

# What the convention of the closed forms leaves out, by reason.
FREE: dict[str, str] = {
    "views, copies and casts move no number through an arithmetic unit": (
        "_to_copy _unsafe_view alias as_strided cat chunk clone contiguous copy_ detach "
        "expand flatten lift_fresh new_empty_strided permute reshape select slice split squeeze stack "
        "t to transpose unbind unflatten unsqueeze values view"
    ),
    "creation": (
        "arange empty empty_like fill_ new_empty new_zeros ones ones_like scalar_tensor "
        "sparse_compressed_tensor sparse_csr_tensor tril zeros zeros_like"
    ),
    "comparisons, sorts and counts of integers": (
        "argsort bincount clamp cumsum floor_divide le lt nonzero nonzero_numpy numel sort topk"
    ),
    "lookups, and sums of rows put back where they were looked up": (
        "embedding embedding_dense_backward gather index index_add index_put index_select scatter "
        "scatter_add where"
    ),
    "elementwise functions, a constant number of operations per entry": (
        "add add_ div gelu gelu_backward mul neg pow relu rsqrt sigmoid sigmoid_backward silu "
        "silu_backward sub sub_ threshold_backward"
    ),
    "norms and softmax, a constant number of operations per entry": (
        "_native_batch_norm_legit _safe_softmax _softmax _softmax_backward_data batch_norm layer_norm "
        "native_batch_norm "
        "native_batch_norm_backward native_layer_norm native_layer_norm_backward rms_norm softmax"
    ),
    "sums without products; the census refuses one of a product": "mean sum",
}


def free_names() -> set[str]:
    return {name for names in FREE.values() for name in names.split()}
