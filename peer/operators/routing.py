"""`route`: the pairs in expert order, and the rows of a table they touch."""

import torch
from torch import Tensor
from torch.library import custom_op

from peer.operators.engine import check_ids, engine


@custom_op("peer::route", mutates_args=())
def route(ids: Tensor, experts: int, impl: str) -> tuple[Tensor, Tensor]:
    """The pairs' order by expert (T·P,), tokens ascending within one, and the runs' bounds (N+1,),
    int32.
    """
    check_ids(ids, experts)
    return engine(impl).route(ids, experts)


@route.register_fake
def _(ids, experts, impl):
    return (
        ids.new_empty(ids.numel(), dtype=torch.int32),
        ids.new_empty(experts + 1, dtype=torch.int32),
    )


@custom_op("peer::touched", mutates_args=())
def touched(bounds: Tensor) -> Tensor:
    """The experts with at least one pair, ascending; waits for a GPU, since their number is a
    shape.
    """
    return (bounds[1:] > bounds[:-1]).nonzero().squeeze(1)


@touched.register_fake
def _(bounds):
    return bounds.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


def table_result(values: Tensor, rows: Tensor | None, shape: torch.Size) -> Tensor:
    if rows is None:
        return values
    return torch.sparse_coo_tensor(
        rows.unsqueeze(0), values, shape, is_coalesced=True, check_invariants=False
    )
