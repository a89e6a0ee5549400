"""`experts` and `bag` on tables that are spread over processes: DTensors, Shard(1) or Shard(0).

By columns every process holds a slice of every row. It meets all tokens with its columns of them, so
that what travels are the tokens' slices, one partial dot product per pair, and slices of outputs:

    x (T, D) → columns (A, D/R) → partial dots (A, P) → their sum (T, P) → weights (T, P) → (A, P)
      → columns of outputs (A, D/R) → y (T, D)

By rows every process holds whole experts. It meets all tokens whole, with those of their experts that
are its own, and outputs (A, D) are summed where their tokens are. Either way a table's gradient is
complete where the rows or columns are: no gradient of a table travels.

R processes of one group, T tokens in each and as many in every one, A = R·T, P pairs per token, N rows.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup

from peer import operators
from peer.activations import activate
from peer.exchange import columns_of_all, gather, gathered, rows_of_own, sum_of_own
from peer.operators.engine import check_ids
from peer.optim import RowOptimizer, local
from peer.stepping import BagAndStep, ExpertsAndStep, steps_in_backward

Sharding = Literal["columns", "rows"]
SHARDINGS: tuple[Sharding, ...] = ("columns", "rows")  # by the axis of a table, the last first
AXES: dict[Sharding, int] = {"columns": 1, "rows": 0}
ENGINES = ("aten", "native", "triton")
ID_BYTES = 4


class Wire(NamedTuple):
    """Bytes that one process sends for one call of a layer, by a ring or directly."""

    forward_bytes: int
    backward_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.forward_bytes + self.backward_bytes


def wire(
    sharding: Sharding, *, ranks: int, tokens: int, pairs: int, dim: int, dots: int, size: int = 4
) -> Wire:
    """What a call sends, per process.

    Args:
        ranks: R.
        tokens: T of one process.
        pairs: P per token, h·k.
        dim: D, width of the tables.
        dots: tables that a token meets by a dot product: 1 of PEER, 2 with a gate, 0 of PKM.
        size: bytes of a number.

    With m = 1 for dots > 0 and else 0, columns send

        forward   (R − 1)/R · (1 + m)·T·D·size  +  (R − 1) · T·P·(4 + (1 + dots)·size)
        backward  (R − 1)/R · (1 + m)·T·D·size  +  (R − 1) · T·P·(1 + dots)·size

    and rows

        forward   (R − 1) · (1 + m)·T·D·size  +  (R − 1) · T·P·(4 + size)
        backward  (R − 1) · (1 + m)·T·D·size  +  (R − 1) · T·P·size

    so that of PEER columns send less where P < 2·D·(R − 1)/R, and of PKM always.
    """
    others, streams = ranks - 1, 1 + (dots > 0)
    slices = others * tokens * pairs * size
    ids = others * tokens * pairs * ID_BYTES
    tokens_bytes = others * streams * tokens * dim * size
    whole = {"columns": tokens_bytes // ranks + dots * slices, "rows": tokens_bytes}
    backward = whole[sharding] + slices
    return Wire(backward + ids, backward)


def fits(sharding: Sharding, ranks: int, shape: torch.Size | tuple[int, ...]) -> bool:
    """Whether a table (N, D) divides so over `ranks`."""
    return shape[AXES[sharding]] % ranks == 0


def is_sharded(table: Tensor) -> bool:
    """A DTensor: FSDP2 shows a layer its own whole, so that one that is met here was spread by hand."""
    return hasattr(table, "placements")


def experts(
    x_TD: Tensor,
    ids_TP: Tensor,
    scores_TP: Tensor,
    tables: list[Tensor],
    activation: str,
    table_grad: str | RowOptimizer,
    check: bool,
    impl: str,
) -> Tensor:
    """As `peer.experts`, for this process's tokens; `tables` are down, up and for GLU experts gate."""
    layout = Layout.of(tables, table_grad, impl)
    stepper = layout.stepper(table_grad, tables)
    ids_AP = layout.all_ids(ids_TP, check)
    if layout.sharding == "rows":
        x_AD, scores_AP = (gathered(x, layout.group) for x in (x_TD, scores_TP))
        y_AD = experts_of_rows(
            x_AD, *layout.own_pairs(ids_AP, scores_AP), tables, activation, stepper, impl
        )
        return sum_of_own(y_AD, layout.group)
    down, up, *gate = tables
    route = operators.route(ids_AP, layout.rows, False, impl)
    x_AC = columns_of_all(x_TD, layout.group)
    hidden_TP, *gates_TP = (
        sum_of_own(
            Dots.apply(x_AC, ids_AP, read(table, stepper), *route, stepper, impl), layout.group
        )
        for table in (down, *gate)
    )
    gates = gates_TP[0] if gates_TP else hidden_TP.new_empty(0)
    active_TP = activate(hidden_TP, gates, activation)
    weights_AP = gathered((scores_TP * active_TP).to(up.dtype), layout.group)
    return rows_of_own(summed(ids_AP, weights_AP, up, route, stepper, impl), layout.group)


def bag(
    ids_TP: Tensor,
    scores_TP: Tensor,
    table: Tensor,
    table_grad: str | RowOptimizer,
    check: bool,
    impl: str,
) -> Tensor:
    """As `peer.bag`, for this process's tokens."""
    layout = Layout.of([table], table_grad, impl)
    stepper = layout.stepper(table_grad, [table])
    ids_AP, scores_AP = layout.all_ids(ids_TP, check), gathered(scores_TP, layout.group)
    if layout.sharding == "rows":
        ids_AP, scores_AP = layout.own_pairs(ids_AP, scores_AP)
    route = operators.route(ids_AP, local(table).shape[0], False, impl)
    y = summed(ids_AP, scores_AP, table, route, stepper, impl)
    whole = sum_of_own if layout.sharding == "rows" else rows_of_own
    return whole(y, layout.group)


class Layout(NamedTuple):
    """How the tables of a call are spread."""

    sharding: Sharding
    group: ProcessGroup
    rows: int  # of a table, all processes together

    @classmethod
    def of(cls, tables: list[Tensor], table_grad: str | RowOptimizer, impl: str) -> "Layout":
        """Raises ValueError for tables spread in another way, or what cannot read them."""
        placements = {tuple(getattr(table, "placements", ())) for table in tables}
        first: Any = tables[0]
        axes = [getattr(placement, "dim", None) for placement in first.placements]
        if len(placements) > 1 or axes not in ([0], [1]):
            raise ValueError(
                "tables spread over processes are DTensors of one mesh axis, all Shard(1) or all "
                f"Shard(0); got {', '.join(str(getattr(t, 'placements', 'whole')) for t in tables)}"
            )
        if impl not in ENGINES:
            raise ValueError(f"impl={impl!r} reads whole tables; take one of {', '.join(ENGINES)}")
        if table_grad == "sparse":
            raise ValueError(
                "tables spread over processes have 'dense' gradients or an optimizer that steps "
                "inside backward; got table_grad='sparse'"
            )
        sharding: Sharding = "columns" if axes == [1] else "rows"
        if not fits(sharding, first.device_mesh.size(), first.shape):
            raise ValueError(
                f"a table {tuple(first.shape)} does not divide by {sharding} over "
                f"{first.device_mesh.size()} processes"
            )
        return cls(sharding, first.device_mesh.get_group(), first.shape[0])

    def stepper(self, table_grad: str | RowOptimizer, tables: list[Tensor]) -> RowOptimizer | None:
        """The optimizer that steps inside backward, where one does."""
        named = {f"table {number}": table for number, table in enumerate(tables)}
        if isinstance(table_grad, str) or not steps_in_backward(table_grad, **named):
            return None
        return table_grad

    def all_ids(self, ids_TP: Tensor, check: bool) -> Tensor:
        if check:
            check_ids(ids_TP, self.rows)
        return gather(ids_TP.int(), self.group)

    def own_pairs(self, ids_AP: Tensor, scores_AP: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs whose rows are here, (A, the most that a token has): ids from the first row, scores.

        Their number is a shape, so a GPU is waited for. A token with fewer takes a row that is read
        anyway, with weight 0.
        """
        rows = self.rows // self.group.size()
        ids_AP = ids_AP - rows * self.group.rank()
        own_AP = (ids_AP >= 0) & (ids_AP < rows)
        most = max(1, int(own_AP.sum(1).max())) if own_AP.numel() else 1
        first_AP = own_AP.int().argsort(dim=1, descending=True, stable=True)[:, :most]
        kept_AP, ids_AP = own_AP.gather(1, first_AP), ids_AP.gather(1, first_AP)
        read = torch.where(kept_AP, ids_AP, rows).amin() if ids_AP.numel() else ids_AP.new_zeros(())
        ids_AP = torch.where(kept_AP, ids_AP, read.clamp(max=rows - 1))
        return ids_AP, torch.where(kept_AP, scores_AP.gather(1, first_AP), 0.0)


def read(table: Tensor, stepper: RowOptimizer | None) -> Tensor:
    """What a function of this file takes: the optimizer's own parameter, or its part with a gradient."""
    return local(table) if stepper is None else table


def summed(
    ids: Tensor,
    weights: Tensor,
    table: Tensor,
    route: tuple[Tensor, Tensor],
    stepper: RowOptimizer | None,
    impl: str,
) -> Tensor:
    """Weighted sums of this process's part of rows."""
    if stepper is None:
        return operators.bag(ids, weights, local(table), *route, "dense", False, impl)
    return BagAndStep.apply(ids, weights, table, *route, stepper, False, impl)


def experts_of_rows(
    x: Tensor,
    ids: Tensor,
    scores: Tensor,
    tables: list[Tensor],
    activation: str,
    stepper: RowOptimizer | None,
    impl: str,
) -> Tensor:
    """This process's experts, whole."""
    order, bounds = operators.route(ids, local(tables[0]).shape[0], False, impl)
    down, up, *gate = (read(table, stepper) for table in tables)
    given = x, ids, scores, down, up, gate[0] if gate else None, order, bounds, activation
    if stepper is None:
        return operators.experts(*given, "dense", False, impl)[0]
    return ExpertsAndStep.apply(*given, stepper, False, impl)


class Dots(torch.autograd.Function):
    """x (A, C), ids (A, P), table (N, C) → x · table[id] (A, P), float32 or wider: `bag` transposed."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        ids: Tensor,
        table: Tensor,
        order: Tensor,
        bounds: Tensor,
        stepper: RowOptimizer | None,
        impl: str,
    ) -> Tensor:
        ctx.save_for_backward(x, ids, order, bounds)
        ctx.table, ctx.stepper, ctx.impl = table, stepper, impl
        like = x.new_zeros(ids.shape, dtype=torch.promote_types(x.dtype, torch.float32))
        given = x, ids, like, local(table), order, bounds, None, impl
        return operators.bag_backward(*given, True, False)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, ids, order, bounds = ctx.saved_tensors
        table, stepper, impl = local(ctx.table), ctx.stepper, ctx.impl
        weights, dx, dtable = grad.to(table.dtype).contiguous(), None, None
        if ctx.needs_input_grad[0]:
            dx = operators.bag(ids, weights, table, order, bounds, "dense", False, impl)
        if stepper is not None:
            step = stepper.step_in_backward(ctx.table)
            operators.engine(impl).update_rows(table, weights, x, order, bounds, step)
        elif ctx.needs_input_grad[2]:
            given = x, ids, weights, table, order, bounds, None, impl
            dtable = operators.bag_backward(*given, False, True)[1]
        return dx, None, dtable, *(None,) * 4
