"""Optimizers for expert tables that read and write the rows a step touched, and no others.

A dense AdamW step moves 22 bytes per parameter of 2·N·D, more than the layer itself up to thousands
of tokens. These steps cost in proportion to the rows of a sparse gradient (`table_grad="sparse"`),
or they happen inside backward (`table_grad=optimizer`), where no gradient is ever stored. The price
is another semantics for rows that were not touched, named here and tested against the plain
optimizer. A dense gradient touches every row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw
from torch.optim.optimizer import ParamsT

from peer.graphs import capturing

ROWS_AT_ONCE = 1024  # of a table and its moments: 3 MB at D = 256 stay in a core's cache


@dataclass(frozen=True, kw_only=True)
class AdamWStep:
    """One step of AdamW on rows of a table, with the bias correction of step number `step`.

    The step is counted on the table's device, so that a captured CUDA graph counts its replays.
    """

    mean: Tensor  # (N, D)
    square: Tensor  # (N, D)
    step: Tensor  # float32, whole
    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float

    @property
    def settings(self) -> Tensor:
        """(3,) float32 on the device: the rate and the second moment's scale, corrected for bias, and
        what decay leaves of a value.
        """
        first, second = (1 - beta ** self.step.double() for beta in self.betas)
        shrink = torch.full_like(first, 1 - self.lr * self.weight_decay)
        return torch.stack((self.lr / first, second.sqrt(), shrink)).float()

    def apply(self, table: Tensor, rows: Tensor, grad: Tensor) -> None:
        before = self.step - 1
        for some, part in in_cache(rows, grad):
            mean, square = self.mean.index_select(0, some), self.square.index_select(0, some)
            value = table.index_select(0, some).to(mean.dtype)
            adamw(
                [value],
                [part.to(mean.dtype)],
                [mean],
                [square],
                [],
                [before.clone()],
                fused=True,
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=self.lr,
                weight_decay=self.weight_decay,
                eps=self.eps,
                maximize=False,
            )
            self.mean.index_copy_(0, some, mean)
            self.square.index_copy_(0, some, square)
            table.index_copy_(0, some, value.to(table.dtype))


@dataclass(frozen=True, kw_only=True)
class RowAdagradStep:
    """One step of row-wise Adagrad on rows of a table."""

    square: Tensor  # (N,)
    lr: float
    eps: float

    @property
    def settings(self) -> Tensor:
        """(1,) float32 on the device: the rate."""
        return torch.full((1,), self.lr, dtype=torch.float32, device=self.square.device)

    def apply(self, table: Tensor, rows: Tensor, grad: Tensor) -> None:
        for some, part in in_cache(rows, grad):
            part = part.to(self.square.dtype)
            square = self.square.index_select(0, some).add_(part.square().mean(1))
            value = table.index_select(0, some).to(part.dtype)
            value.addcdiv_(part, square.sqrt().add_(self.eps)[:, None], value=-self.lr)
            self.square.index_copy_(0, some, square)
            table.index_copy_(0, some, value.to(table.dtype))


class RowOptimizer(Optimizer):
    """An optimizer whose step on a table row needs the gradient of that row alone.

    As a layer's `table_grad` it takes its step inside backward, row by row while the row's gradient
    is at hand, with the numbers its plain step gives for the sparse gradient. `step()` then ends the
    step, and must follow every backward: gradients are not accumulated. As there is no gradient,
    none is clipped, scaled or averaged over processes. Tables spread over processes (`peer.sharded`)
    step where they are, their gradient being complete there.
    """

    whole_rows: ClassVar[bool] = (
        True  # whether a step needs the gradient of a row in all its columns
    )

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        self.stepped: set[Tensor] = set()
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy of a layer, or one that was unpickled, has its own tables in its own optimizer."""
        self.stepped = set()
        super().__setstate__(state)

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As every optimizer's, but moments keep their width beside 16-bit tables."""
        super().load_state_dict(state_dict)
        saved = [name for group in state_dict["param_groups"] for name in group["params"]]
        tables = [table for group in self.param_groups for table in group["params"]]
        for name, table in zip(saved, tables, strict=True):
            for key, value in state_dict["state"].get(name, {}).items():
                if isinstance(value, Tensor):
                    self.state[table][key] = value.to(table.device, copy=True)

    @torch.no_grad()
    def step(  # type: ignore[override]  # torch overloads it
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """RuntimeError where a table that stepped in backward has a gradient besides."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is None:
                    continue
                if table in self.stepped:
                    raise RuntimeError(
                        "a table that took its step in backward has a gradient from elsewhere too; "
                        "use table_grad='sparse' where a table has several uses"
                    )
                self.check_sharded_alike(table)
                self.next_step(table).apply(local(table), *rows_of(local(table.grad)))
        self.stepped.clear()
        return loss

    def next_step(self, table: Tensor) -> AdamWStep | RowAdagradStep:
        """The rule of the table's next step with this group's settings; counts the step."""
        raise NotImplementedError

    def state_bytes(self, dim: int) -> int:
        """Optimizer state that a step on a row of `dim` numbers reads and writes, in float32."""
        raise NotImplementedError

    def group_of(self, table: Tensor) -> dict[str, Any]:
        return next(g for g in self.param_groups if any(table is own for own in g["params"]))

    def check_holds(self, **tables: Tensor) -> None:
        """Raises ValueError for a table that this optimizer cannot update in backward."""
        held = {id(table) for group in self.param_groups for table in group["params"]}
        kind = type(self).__name__
        for name, table in tables.items():
            if id(table) not in held:
                raise ValueError(
                    f"{name} is none of the parameters of the {kind} given as table_grad; "
                    "make that of layer.tables(), after moving the layer to its device"
                )
            if not table.is_contiguous():
                raise ValueError(f"{name} must be contiguous for a step inside backward")
            if processes() > 1 and not placements(table):
                raise ValueError(
                    "a step inside backward sees the gradient of its own process alone, so the copies "
                    "of a table would drift apart; use table_grad='dense' or 'sparse'"
                )
            if self.whole_rows and any(p.is_shard(1) for p in placements(table)):
                raise ValueError(
                    f"{kind} needs rows in all their columns; spread {name} by rows, or take TouchedAdamW"
                )

    def check_sharded_alike(self, table: Tensor) -> None:
        """Raises ValueError for a DTensor whose parts cannot step alone, or sharded unlike its gradient."""
        own = placements(table)
        axes = (0,) if self.whole_rows else (0, 1)
        alone = all(p.is_replicate() or any(map(p.is_shard, axes)) for p in own)
        if own != placements(table.grad) or not alone:
            raise ValueError(
                "a step on rows needs tables and gradients sharded by rows alike, as fully_shard does, "
                "or for TouchedAdamW by columns; "
                f"got a table {own} and its gradient {placements(table.grad)}"
            )

    def step_in_backward(self, table: Tensor) -> AdamWStep | RowAdagradStep:
        """`next_step`, once until `step()`; a second time raises RuntimeError."""
        if table in self.stepped:
            raise RuntimeError(
                "a table took its step in backward twice before step(): call step() after each "
                "backward, or accumulate gradients with table_grad='sparse'"
            )
        self.stepped.add(table)
        return self.next_step(table)


class TouchedAdamW(RowOptimizer):
    """AdamW on touched rows. An untouched row keeps its value and moments: neither decays.

    Equals `torch.optim.AdamW` while every row is touched in every step, and
    `torch.optim.SparseAdam` for weight_decay=0: the bias correction counts the steps of the table,
    not of the row. Moments are float32 or wider.
    """

    whole_rows: ClassVar[bool] = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        check_positive(lr=lr, eps=eps, weight_decay=weight_decay)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be in [0, 1); got {betas}")
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    def next_step(self, table: Tensor) -> AdamWStep:
        state, group = self.state[table], self.group_of(table)
        if not state:
            check_not_captured(table)
            wide = torch.promote_types(table.dtype, torch.float32)
            state["step"] = torch.zeros((), device=table.device)
            state["mean"] = torch.zeros_like(table, dtype=wide)
            state["square"] = torch.zeros_like(table, dtype=wide)
        state["step"] += 1
        settings = {name: group[name] for name in ("lr", "betas", "eps", "weight_decay")}
        mean, square = local(state["mean"]), local(state["square"])
        return AdamWStep(mean=mean, square=square, step=state["step"], **settings)

    def state_bytes(self, dim: int) -> int:
        return 2 * 2 * 4 * dim


class RowAdagrad(RowOptimizer):
    """Adagrad with one accumulator per row, the running sum of the row's mean squared gradient.

    State is N numbers instead of N·D. For D = 1 it equals `torch.optim.Adagrad`. An untouched row
    changes in neither: its gradient is zero, so nothing is given up by skipping it.
    """

    def __init__(self, params: ParamsT, lr: float = 1e-2, eps: float = 1e-10) -> None:
        check_positive(lr=lr, eps=eps)
        super().__init__(params, {"lr": lr, "eps": eps})

    def next_step(self, table: Tensor) -> RowAdagradStep:
        state, group = self.state[table], self.group_of(table)
        if not state:
            check_not_captured(table)
            wide = torch.promote_types(table.dtype, torch.float32)
            # One number per row, sharded as the rows are.
            state["square"] = torch.zeros_like(table[:, 0], dtype=wide).contiguous()
        return RowAdagradStep(square=local(state["square"]), lr=group["lr"], eps=group["eps"])

    def state_bytes(self, dim: int) -> int:
        return 2 * 4


def check_not_captured(table: Tensor) -> None:
    if capturing(table):
        raise RuntimeError(
            "the first step makes the optimizer's state, and a CUDA graph would make it anew at every "
            "replay; take a step before the capture"
        )


def processes() -> int:
    """Processes of the running process group, 1 where there is none."""
    group = torch.distributed
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def local(tensor: Tensor) -> Tensor:
    """Of a tensor sharded over processes (a DTensor, as FSDP2 makes) this process's part."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def placements(table: Tensor | None) -> tuple[Any, ...]:
    """How a DTensor lies on its processes; of another tensor nothing."""
    return getattr(table, "placements", ())


def rows_of(grad: Tensor) -> tuple[Tensor, Tensor]:
    """The touched rows, each once, and their gradient.

    Autograd forgets that a gradient was coalesced when it accumulates it; ascending rows need no
    second sort.
    """
    if not grad.is_sparse:
        return torch.arange(grad.shape[0], device=grad.device), grad
    rows = grad._indices()[0]
    if not grad.is_coalesced() and not (rows[1:] > rows[:-1]).all():
        grad = grad.coalesce()
    return grad._indices()[0], grad._values()


def in_cache(rows: Tensor, grad: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows and their gradient, some at a time on a CPU, where fresh memory costs page faults."""
    count = ROWS_AT_ONCE if grad.is_cpu else max(1, rows.shape[0])
    return zip(rows.split(count), grad.split(count), strict=True)


def check_positive(**settings: float) -> None:
    for name, value in settings.items():
        if value < 0:
            raise ValueError(f"{name} must not be negative; got {value}")
