"""Token-choice mixture of experts with a load-balancing loss (arXiv 2101.03961, 2401.04088)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from baselines.capacity import slots_for
from baselines.grouped import GEMM_ROW_BYTES, grouped_product
from peer.counted import Counted
from peer.functional import check_one_of
from peer.reference import ACTIVATIONS
from peer.sizes import check_sizes

GATES = ("softmax", "sigmoid")


class TopKMoE(Counted, nn.Module):
    """Each token picks its `topk` best experts; without a capacity no token is dropped.

    Dropless tokens are sorted by expert and meet their weights in one grouped GEMM, or in a product per
    expert where dim or hidden are no multiple of 8 (of 4 in float32). With a capacity
    each expert holds C = ⌈capacity_factor · topk · T / E⌉ slots, first come first served; the rest drop.

    Args:
        dim: D, model width.
        experts: E.
        topk: experts per token.
        hidden: F, hidden width of an expert; by default 4·D / topk, so that a token costs what dense costs.
        gate: "softmax" over the selected experts' logits (needs topk ≥ 2: over one it is constant and the
            router learns nothing), or "sigmoid" of each.
        capacity_factor: slots per expert over its fair share, or None for dropless.
        balance: weight of the load-balancing loss E · Σ_e share_e · mean probability_e, which a call
            `layer(x, with_loss=True)` returns for the caller to add to its own.
        activation: "gelu", "relu" or "silu".
    """

    asks_loss: ClassVar[bool] = True
    WIDTH_STEP: ClassVar[int] = GEMM_ROW_BYTES // torch.bfloat16.itemsize  # of widths it is fast at

    def __init__(
        self,
        dim: int,
        *,
        experts: int = 128,
        topk: int = 2,
        hidden: int | None = None,
        gate: str = "softmax",
        capacity_factor: float | None = None,
        balance: float = 0.01,
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        check_sizes(dim=dim, experts=experts, topk=topk)
        check_one_of("activation", activation, ACTIVATIONS)
        check_one_of("gate", gate, GATES)
        if topk > experts:
            raise ValueError(f"topk must be at most experts={experts}; got {topk}")
        if gate == "softmax" and topk == 1:
            raise ValueError(
                "gate='softmax' needs topk of at least 2; take gate='sigmoid' for topk=1"
            )
        if hidden is None and 4 * dim % topk:
            raise ValueError(f"4·dim = {4 * dim} does not divide by topk={topk}; state hidden")
        if capacity_factor is not None and capacity_factor <= 0:
            raise ValueError(f"capacity_factor must be positive or None; got {capacity_factor}")
        self.dim, self.experts, self.topk = dim, experts, topk
        self.hidden = 4 * dim // topk if hidden is None else hidden
        check_sizes(hidden=self.hidden)
        self.gate, self.capacity_factor, self.balance = gate, capacity_factor, balance
        self.activation = activation
        self.router = nn.Linear(dim, experts, bias=False)
        self.up = nn.Parameter(torch.empty(experts, dim, self.hidden))
        self.down = nn.Parameter(torch.empty(experts, self.hidden, dim))
        self.gain = self.squared_scores_at_init() ** -0.5
        self.reset_parameters()

    def squared_scores_at_init(self) -> float:
        """E[Σ_k score²] at initialisation: the i-th best of E standard normals lies near a known quantile."""
        rank = torch.arange(self.topk, dtype=torch.float64, device="cpu")
        best = torch.special.ndtri(1 - (rank + 0.5) / self.experts)
        return self.scores(best).square().sum().item()

    def reset_parameters(self) -> None:
        """Experts like the dense layer; the constant `gain` on the scores makes output variances equal."""
        nn.init.normal_(self.router.weight, std=self.dim**-0.5)
        nn.init.normal_(self.up, std=self.dim**-0.5)
        nn.init.normal_(self.down, std=self.hidden**-0.5)

    def scores(self, best: Tensor) -> Tensor:
        return best.softmax(-1) if self.gate == "softmax" else best.sigmoid()

    def capacity(self, tokens: int) -> int | None:
        """Slots of each expert in a call with `tokens`, None when dropless."""
        if self.capacity_factor is None:
            return None
        return slots_for(self.capacity_factor, self.topk * tokens, self.experts)

    def forward(self, x: Tensor, with_loss: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Tokens (..., D) → (..., D), `with_loss` beside the balance loss (), 0 for no tokens.

        Nothing stays on the module, so that it copies and is computed again under checkpointing.
        """
        x_TD = x.reshape(-1, self.dim)
        logits_TE = self.router(x_TD)
        wide_TE = logits_TE.to(torch.promote_types(logits_TE.dtype, torch.float32))
        best_TK, ids_TK = wide_TE.topk(self.topk, dim=-1)
        scores_TK = self.gain * self.scores(best_TK)

        ids, order = ids_TK.flatten().sort(stable=True)
        tokens = order // self.topk
        counts_E = torch.bincount(ids, minlength=self.experts)
        rows = x_TD[tokens].to(logits_TE.dtype)
        scores = scores_TK.flatten()[order].to(logits_TE.dtype)
        if (slots := self.capacity(x_TD.shape[0])) is None:
            out = self.grouped(rows, counts_E.cumsum(0).int())
        else:
            out = self.bounded(rows, ids, counts_E, slots)
        y_TD = torch.zeros_like(x_TD, dtype=out.dtype)
        y = y_TD.index_add(0, tokens, out * scores.unsqueeze(-1)).view(x.shape)
        return (y, self.balance_loss(wide_TE, ids_TK)) if with_loss else y

    def grouped(self, rows: Tensor, ends_E: Tensor) -> Tensor:
        """Rows sorted by expert, (T·K, D) → (T·K, D)."""
        hidden = grouped_product(rows, self.up.to(rows.dtype), ends_E)
        return grouped_product(
            ACTIVATIONS[self.activation](hidden), self.down.to(rows.dtype), ends_E
        )

    def bounded(self, rows: Tensor, ids: Tensor, counts_E: Tensor, slots: int) -> Tensor:
        """Rows sorted by expert, (T·K, D) → (T·K, D); zero for those beyond an expert's slots."""
        position = (
            torch.arange(ids.shape[0], device=ids.device) - (counts_E.cumsum(0) - counts_E)[ids]
        )
        kept = (position < slots).unsqueeze(-1)
        slot = ids * slots + position.clamp(max=slots - 1)
        filled = rows.new_zeros(self.experts * slots, self.dim).index_add(0, slot, rows * kept)
        hidden = ACTIVATIONS[self.activation](
            filled.view(self.experts, slots, self.dim) @ self.up.to(rows.dtype)
        )
        return (hidden @ self.down.to(rows.dtype)).flatten(0, 1)[slot] * kept

    def balance_loss(self, logits_TE: Tensor, ids_TK: Tensor) -> Tensor:
        """E · Σ_e (share of choices that fell on e) · (mean probability of e): 1 when perfectly even."""
        share_E = torch.bincount(ids_TK.flatten(), minlength=self.experts) / max(ids_TK.numel(), 1)
        probability_E = logits_TE.softmax(-1).sum(0) / max(logits_TE.shape[0], 1)
        return self.balance * self.experts * (share_E * probability_E).sum()

    def parameter_parts(self) -> dict[str, int]:
        """Parameters by part."""
        return {
            "router": self.router.weight.numel(),
            "experts": self.up.numel() + self.down.numel(),
        }

    def active_parameter_parts(self) -> dict[str, int]:
        """By part: the router and a token's `topk` experts."""
        return self.parameter_parts() | {"experts": self.topk * 2 * self.dim * self.hidden}

    def selected(self, x: Tensor) -> Tensor:
        """Ids (T, K) of the experts that tokens (..., D) choose."""
        return self.router(x.reshape(-1, self.dim)).float().topk(self.topk, dim=-1).indices

    def rows(self, tokens: int) -> int:
        """Rows that experts compute in a call with `tokens`, the empty slots of bounded experts too."""
        slots = self.capacity(tokens)
        return self.topk * tokens if slots is None else self.experts * slots

    def flops(self, tokens: int) -> dict[str, int]:
        """Forward FLOPs by part, a multiply-add counted as 2; empty slots of an expert count too."""
        return {
            "router": 2 * tokens * self.router.weight.numel(),
            "experts": 4 * self.rows(tokens) * self.dim * self.hidden,
        }

    def bytes_moved(self, tokens: int, ids: Tensor | None = None) -> dict[str, int]:
        """Bytes of one forward call by part, each chosen expert read once; `ids` as in `peer.PEER`."""
        size, parameters = self.up.element_size(), self.parameter_parts()
        if ids is None:
            chosen = round(self.experts * (1 - (1 - self.topk / self.experts) ** tokens))
        else:
            chosen = ids.unique().numel()
        choices = tokens * self.topk * (size + 4)
        matrices = chosen * 2 * self.dim * self.hidden
        rows = 2 * tokens * self.dim + 2 * self.rows(tokens) * self.hidden
        return {
            "router": (tokens * self.dim + parameters["router"]) * size + choices,
            "experts": choices + (matrices + rows) * size,
        }

    def activation_bytes(self, tokens: int) -> dict[str, int]:
        """Bytes kept for backward by part: tokens and logits; choices and pre-activations."""
        size = self.up.element_size()
        return {
            "router": tokens * (self.dim + self.experts) * size,
            "experts": tokens * self.topk * (size + 4) + self.rows(tokens) * self.hidden * size,
        }

    def extra_repr(self) -> str:
        return (
            f"experts={self.experts}, topk={self.topk}, hidden={self.hidden}, gate={self.gate!r}, "
            f"capacity_factor={self.capacity_factor}, activation={self.activation!r}, gain={self.gain:.3g}"
        )
