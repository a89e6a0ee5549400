"""Optimizers for expert tables that read and write the rows a step touched, and no others.

A dense AdamW step moves 22 bytes per parameter of 2·N·D, more than the layer itself up to thousands
of tokens. These steps cost in proportion to the rows of a sparse gradient (`table_grad="sparse"`).
The price is another semantics for rows that were not touched, named here and tested against the
plain optimizer. A dense gradient touches every row.
"""

import torch
from torch import Tensor
from torch.optim import Optimizer


def rows_of(grad: Tensor) -> tuple[Tensor | slice, Tensor]:
    """The touched rows, each once, and their gradient.

    Autograd forgets that a gradient was coalesced when it accumulates it; ascending rows need no
    second sort.
    """
    if not grad.is_sparse:
        return slice(None), grad
    rows = grad._indices()[0]
    if not grad.is_coalesced() and not (rows[1:] > rows[:-1]).all():
        grad = grad.coalesce()
    return grad._indices()[0], grad._values()


def check_positive(**settings: float) -> None:
    for name, value in settings.items():
        if value < 0:
            raise ValueError(f"{name} must not be negative; got {value}")


class TouchedAdamW(Optimizer):
    """AdamW on touched rows. An untouched row keeps its value and moments: neither decays.

    Equals `torch.optim.AdamW` while every row is touched in every step, and
    `torch.optim.SparseAdam` for weight_decay=0: the bias correction counts the steps of the table,
    not of the row. Moments are float32 or wider.
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01) -> None:
        check_positive(lr=lr, eps=eps, weight_decay=weight_decay)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be in [0, 1); got {betas}")
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self.update(
                        table, **{k: group[k] for k in ("lr", "betas", "eps", "weight_decay")}
                    )
        return loss

    def update(self, table: Tensor, lr, betas, eps, weight_decay) -> None:
        state = self.state[table]
        if not state:
            wide = torch.promote_types(table.dtype, torch.float32)
            state["step"] = 0
            state["mean"] = torch.zeros_like(table, dtype=wide)
            state["square"] = torch.zeros_like(table, dtype=wide)
        state["step"] += 1
        assert table.grad is not None
        rows, grad = rows_of(table.grad)
        grad = grad.to(state["mean"].dtype)
        mean = state["mean"][rows].lerp(grad, 1 - betas[0])
        square = state["square"][rows].mul(betas[1]).addcmul(grad, grad, value=1 - betas[1])
        state["mean"][rows], state["square"][rows] = mean, square
        scale = (1 - betas[1] ** state["step"]) ** 0.5
        change = mean / (square.sqrt() / scale + eps) * (lr / (1 - betas[0] ** state["step"]))
        value = table[rows].to(mean.dtype) * (1 - lr * weight_decay) - change
        table[rows] = value.to(table.dtype)


class RowAdagrad(Optimizer):
    """Adagrad with one accumulator per row, the running sum of the row's mean squared gradient.

    State is N numbers instead of N·D. For D = 1 it equals `torch.optim.Adagrad`. An untouched row
    changes in neither: its gradient is zero, so nothing is given up by skipping it.
    """

    def __init__(self, params, lr=1e-2, eps=1e-10) -> None:
        check_positive(lr=lr, eps=eps)
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self.update(table, group["lr"], group["eps"])
        return loss

    def update(self, table: Tensor, lr: float, eps: float) -> None:
        state = self.state[table]
        if not state:
            wide = torch.promote_types(table.dtype, torch.float32)
            state["square"] = torch.zeros(table.shape[0], dtype=wide, device=table.device)
        assert table.grad is not None
        rows, grad = rows_of(table.grad)
        grad = grad.to(state["square"].dtype)
        square = state["square"][rows] + grad.square().mean(1)
        state["square"][rows] = square
        value = table[rows].to(grad.dtype) - lr * grad / (square.sqrt() + eps).unsqueeze(1)
        table[rows] = value.to(table.dtype)
