"""`route`: the pairs in expert order, and the rows of a table they touch."""

import torch
from torch import Tensor
from torch.library import custom_op

from peer.graphs import capturing
from peer.namespace import NAMESPACE
from peer.operators.engine import check_ids, engine


@custom_op(f"{NAMESPACE}::route", mutates_args=())
def route(ids: Tensor, experts: int, check: bool, impl: str) -> tuple[Tensor, Tensor]:
    """The pairs' order by expert (T·P,), tokens ascending within one, and where the runs of equal
    experts lie, as the engine wants it: the bounds (N+1,) of all runs for ATen, the expert of each
    sorted pair (T·P,) for Triton; int32.
    """
    if check:
        check_ids(ids, experts)
    return engine(impl).route(ids, experts)


@route.register_fake
def _(ids: Tensor, experts: int, check: bool, impl: str) -> tuple[Tensor, Tensor]:
    runs = ids.numel() if impl == "triton" else experts + 1
    return ids.new_empty(ids.numel(), dtype=torch.int32), ids.new_empty(runs, dtype=torch.int32)


@custom_op(f"{NAMESPACE}::touched", mutates_args=())
def touched(bounds: Tensor, impl: str) -> Tensor:
    """The experts with at least one pair, ascending; waits for a GPU, since their number is a
    shape.
    """
    if capturing(bounds):
        raise RuntimeError(
            "table_grad='sparse' cannot be captured in a CUDA graph, as the number of touched rows "
            "is a shape; use 'dense' or an optimizer of peer.optim"
        )
    if impl == "triton":
        return engine(impl).touched(bounds)
    return (bounds[1:] > bounds[:-1]).nonzero().squeeze(1)


@touched.register_fake
def _(bounds: Tensor, impl: str) -> Tensor:
    return bounds.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


def table_result(values: Tensor, rows: Tensor | None, shape: torch.Size) -> Tensor:
    if rows is None:
        return values
    return torch.sparse_coo_tensor(
        rows.unsqueeze(0), values, shape, is_coalesced=True, check_invariants=False
    )
