"""Fine-grained mixture of experts with a shared expert (DeepSeek-V3, arXiv 2412.19437, section 2.1.2)."""

import torch
from torch import Tensor, nn

from baselines.dense import DenseFFW
from baselines.grouped import grouped_product
from baselines.moments import GELU_SECOND_MOMENT, SILU_SECOND_MOMENT
from peer.counted import Counted
from peer.reference import ACTIVATIONS
from peer.sizes import check_sizes


class FineGrainedMoE(Counted, nn.Module):
    """y = shared(x) + Σ_{i∈I} w_i · expert_i(x): one shared and `topk` of E narrow routed SwiGLU experts.

    s = sigmoid(x · W); I are the K largest of s + bias, w = scale · s_I / Σ s_I. The bias selects and
    nothing else. Training calls add to `load` what each expert was chosen for, and `after_step`, which a
    training loop calls after its optimizer's step, moves the bias by `bias_rate` · sign(mean − load): loads
    even out without an auxiliary loss, and no token is dropped. Differs from the source: its small
    sequence-wise loss is left out, and `scale` is no free number but makes the routed sum as large as the
    shared expert's output.

    Args:
        dim: D, model width.
        experts: E routed experts.
        topk: K routed experts per token.
        hidden: F, hidden width of each expert, the shared one too. By default the multiple of 8 (rows of
            16 bytes for a grouped GEMM) nearest to (16·D − 2·E) / (6·(K + 1)), and at least 8: then a
            token costs what the dense layer costs.
        bias_rate: u, the step of the selection bias.
    """

    bias: Tensor
    load: Tensor

    def __init__(
        self,
        dim: int,
        *,
        experts: int = 128,
        topk: int = 8,
        hidden: int | None = None,
        bias_rate: float = 0.001,
    ) -> None:
        super().__init__()
        check_sizes(dim=dim, experts=experts, topk=topk)
        if topk > experts:
            raise ValueError(f"topk must be at most experts={experts}; got {topk}")
        if bias_rate < 0:
            raise ValueError(f"bias_rate must be 0 (no balancing) or positive; got {bias_rate}")
        self.dim, self.experts, self.topk, self.bias_rate = dim, experts, topk, bias_rate
        own = max(8, 8 * round((16 * dim - 2 * experts) / (48 * (topk + 1))))
        self.hidden = own if hidden is None else hidden
        check_sizes(hidden=self.hidden)
        self.router = nn.Linear(dim, experts, bias=False)
        self.shared = DenseFFW(dim, hidden=self.hidden, activation="silu", glu=True)
        self.gate_up = nn.Parameter(torch.empty(experts, dim, 2 * self.hidden))
        self.down = nn.Parameter(torch.empty(experts, self.hidden, dim))
        self.register_buffer("bias", torch.zeros(experts))
        self.register_buffer("load", torch.zeros(experts, dtype=torch.int64))
        self.scale = self.squared_weights_at_init() ** -0.5
        self.reset_parameters()

    def squared_weights_at_init(self) -> float:
        """E[Σ_k (s_k / Σ s)²] where logits are standard normal: the i-th best lies near a known quantile."""
        rank = torch.arange(self.topk, dtype=torch.float64, device="cpu")
        best = torch.special.ndtri(1 - (rank + 0.5) / self.experts).sigmoid()
        return (best / best.sum()).square().sum().item()

    def reset_parameters(self) -> None:
        """Output variance E[gelu(z)²], z ~ N(0, 1), half of it the shared expert's.

        A SwiGLU of unit-variance pre-activations has variance E[silu(z)²] · var(down) · F.
        """
        nn.init.normal_(self.router.weight, std=self.dim**-0.5)
        nn.init.normal_(self.gate_up, std=self.dim**-0.5)
        self.shared.reset_parameters()
        std = (GELU_SECOND_MOMENT / (2 * SILU_SECOND_MOMENT * self.hidden)) ** 0.5
        for down in (self.down, self.shared.down.weight):
            nn.init.normal_(down, std=std)
        nn.init.zeros_(self.bias)
        nn.init.zeros_(self.load)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (..., D) → (..., D). In training adds this call's choices to `load`."""
        if x.shape[-1] != self.dim:
            raise ValueError(f"the last axis must be dim={self.dim}; got {tuple(x.shape)}")
        x_TD = x.reshape(-1, self.dim)
        logits_TE = self.router(x_TD)
        weights_TK, ids_TK = self.routed(logits_TE)
        ids, order = ids_TK.flatten().sort(stable=True)
        counts_E = torch.bincount(ids, minlength=self.experts)
        if self.training:
            self.load.add_(counts_E)
        tokens = order // self.topk
        rows = x_TD[tokens].to(logits_TE.dtype)
        out = self.grouped(rows, counts_E.cumsum(0).int())
        out = out * weights_TK.flatten()[order].to(out.dtype).unsqueeze(-1)
        return self.shared(x_TD).index_add(0, tokens, out).view(x.shape)

    def routed(self, logits_TE: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (T, K), whose sum is `scale`, and ids (T, K)."""
        scores_TE = logits_TE.to(torch.promote_types(logits_TE.dtype, torch.float32)).sigmoid()
        ids_TK = (scores_TE.detach() + self.bias).topk(self.topk, dim=-1).indices
        scores_TK = scores_TE.gather(-1, ids_TK)
        return self.scale * (scores_TK / scores_TK.sum(-1, keepdim=True)), ids_TK

    @torch.no_grad()
    def after_step(self) -> None:
        """Moves the bias up where fewer than the mean chose an expert since the last step, down where more.

        Only the sign counts, so a call that activation checkpointing repeats changes nothing.
        """
        above_E = (self.load * self.experts - self.load.sum()).sign()  # in integers
        self.bias.sub_(self.bias_rate * above_E)
        self.load.zero_()

    def grouped(self, rows: Tensor, ends_E: Tensor) -> Tensor:
        """Rows sorted by expert, (T·K, D) → (T·K, D)."""
        gate, up = grouped_product(rows, self.gate_up.to(rows.dtype), ends_E).chunk(2, dim=-1)
        return grouped_product(ACTIVATIONS["silu"](gate) * up, self.down.to(rows.dtype), ends_E)

    def parameter_parts(self) -> dict[str, int]:
        """Parameters by part."""
        return {
            "router": self.router.weight.numel(),
            "shared": self.shared.active_parameters(),
            "experts": self.gate_up.numel() + self.down.numel(),
        }

    def active_parameter_parts(self) -> dict[str, int]:
        """By part: the router, the shared expert and a token's `topk` experts."""
        return self.parameter_parts() | {"experts": self.topk * 3 * self.dim * self.hidden}

    def selected(self, x: Tensor) -> Tensor:
        """Ids (T, K) of the routed experts that tokens (..., D) choose."""
        return self.routed(self.router(x.reshape(-1, self.dim)))[1]

    def flops(self, tokens: int) -> dict[str, int]:
        """Forward FLOPs by part, a multiply-add counted as 2."""
        return {part: 2 * tokens * met for part, met in self.active_parameter_parts().items()}

    def bytes_moved(self, tokens: int, ids: Tensor | None = None) -> dict[str, int]:
        """Bytes of one forward call by part, each chosen expert read once; `ids` as in `peer.PEER`."""
        size, parameters = self.down.element_size(), self.parameter_parts()
        if ids is None:
            chosen = round(self.experts * (1 - (1 - self.topk / self.experts) ** tokens))
        else:
            chosen = ids.unique().numel()
        choices = tokens * self.topk * (size + 4)
        matrices = chosen * 3 * self.dim * self.hidden
        rows = 2 * tokens * self.dim + 2 * tokens * self.topk * self.hidden
        return {
            "router": (tokens * self.dim + parameters["router"]) * size + choices,
            "shared": self.shared.bytes_moved(tokens)["ffw"],
            "experts": choices + (matrices + rows) * size,
        }

    def activation_bytes(self, tokens: int) -> dict[str, int]:
        """Bytes kept for backward by part: tokens and logits; the pre-activations; those and the choices."""
        size = self.down.element_size()
        return {
            "router": tokens * (self.dim + self.experts) * size,
            "shared": tokens * 2 * self.hidden * size,
            "experts": tokens * self.topk * (size + 4 + 2 * self.hidden * size),
        }

    def extra_repr(self) -> str:
        return (
            f"experts={self.experts}, topk={self.topk}, hidden={self.hidden}, "
            f"bias_rate={self.bias_rate}, scale={self.scale:.3g}"
        )
