"""Expert-choice mixture of experts (Zhou et al., arXiv 2202.09368), the MoE of the PEER paper."""

import torch
from torch import Tensor, nn

from baselines.capacity import slots_for
from peer.counted import Counted
from peer.functional import check_one_of
from peer.reference import ACTIVATIONS
from peer.sizes import check_sizes

SAMPLE_TOKENS = 8192


class ExpertChoiceMoE(Counted, nn.Module):
    """Each expert picks its own best tokens, so every expert is equally loaded and none is dropped.

    Shapes: E experts, each takes C = ⌈capacity_factor · T / E⌉ of the T tokens in the call.
    An expert sees all tokens of the call before it chooses, so a token's output depends on later
    tokens: in a causal model that is a leak, inherent in the method.

    Args:
        dim: D, model width.
        experts: E; the paper uses 128, each the size of the dense layer.
        hidden: F, hidden width of an expert, by default 4·D.
        capacity_factor: mean number of experts per token; 1 keeps active parameters equal to dense.
        activation: "gelu", "relu" or "silu".
    """

    def __init__(
        self,
        dim: int,
        *,
        experts: int = 128,
        hidden: int | None = None,
        capacity_factor: float = 1.0,
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        check_sizes(dim=dim, experts=experts)
        check_one_of("activation", activation, ACTIVATIONS)
        if not 0 < capacity_factor <= experts:
            raise ValueError(
                f"capacity_factor must lie in (0, experts={experts}]; got {capacity_factor}"
            )
        self.dim, self.experts = dim, experts
        self.hidden = 4 * dim if hidden is None else hidden
        check_sizes(hidden=self.hidden)
        self.capacity_factor, self.activation = capacity_factor, activation
        self.router = nn.Linear(dim, experts, bias=False)
        self.up = nn.Parameter(torch.empty(experts, dim, self.hidden))
        self.down = nn.Parameter(torch.empty(experts, self.hidden, dim))
        self.gain = self.squared_scores_at_init() ** -0.5
        self.reset_parameters()

    def squared_scores_at_init(self) -> float:
        """E[Σ_e score²] of a token at initialisation, where router logits are standard normal: a sample."""
        generator = torch.Generator().manual_seed(0)
        logits_TE = torch.randn(SAMPLE_TOKENS, self.experts, generator=generator, device="cpu")
        chosen_EC = logits_TE.softmax(-1).t().topk(self.capacity(SAMPLE_TOKENS), dim=-1).values
        return (chosen_EC.double().square().sum() / SAMPLE_TOKENS).item()

    def reset_parameters(self) -> None:
        """Experts like the dense layer; the constant `gain` on the scores makes output variances equal.

        Scores of a softmax over 128 experts are near 0.06 when chosen: without the gain the layer starts,
        and under Adam learns, an order of magnitude below the dense layer it is compared with.
        """
        nn.init.normal_(self.router.weight, std=self.dim**-0.5)
        nn.init.normal_(self.up, std=self.dim**-0.5)
        nn.init.normal_(self.down, std=self.hidden**-0.5)

    def capacity(self, tokens: int) -> int:
        """Tokens that each expert takes out of a call with `tokens`."""
        return min(tokens, slots_for(self.capacity_factor, tokens, self.experts))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (..., D) → (..., D); all leading axes together are the T tokens experts choose from."""
        x_TD = x.reshape(-1, self.dim)
        logits_TE = self.router(x_TD)
        scores_TE = logits_TE.softmax(-1, dtype=torch.promote_types(logits_TE.dtype, torch.float32))
        scores_EC, tokens_EC = scores_TE.t().topk(self.capacity(x_TD.shape[0]), dim=-1)
        chosen_ECD = x_TD[tokens_EC].to(logits_TE.dtype)
        hidden_ECF = ACTIVATIONS[self.activation](chosen_ECD @ self.up.to(logits_TE.dtype))
        out_ECD = (hidden_ECF @ self.down.to(logits_TE.dtype)) * (self.gain * scores_EC).to(
            logits_TE.dtype
        ).unsqueeze(-1)
        y_TD = torch.zeros_like(x_TD, dtype=out_ECD.dtype)
        return y_TD.index_add(0, tokens_EC.flatten(), out_ECD.flatten(0, 1)).view(x.shape)

    def parameter_parts(self) -> dict[str, int]:
        """Parameters by part."""
        return {
            "router": self.router.weight.numel(),
            "experts": self.up.numel() + self.down.numel(),
        }

    def active_parameter_parts(self) -> dict[str, int]:
        """By part, mean over tokens: the router and `capacity_factor` experts."""
        expert = 2 * self.dim * self.hidden
        return self.parameter_parts() | {"experts": round(self.capacity_factor * expert)}

    def selected(self, x: Tensor) -> None:
        """Every expert takes its share of every call."""

    def flops(self, tokens: int) -> dict[str, int]:
        """Forward FLOPs by part for a call with `tokens`, a multiply-add counted as 2."""
        rows = self.experts * self.capacity(tokens)
        return {
            "router": 2 * tokens * self.router.weight.numel(),
            "experts": 4 * rows * self.dim * self.hidden,
        }

    def bytes_moved(self, tokens: int, ids: Tensor | None = None) -> dict[str, int]:
        """Bytes of one forward call by part: every expert once, tokens in and out, hidden out and in."""
        size, rows = self.up.element_size(), self.experts * self.capacity(tokens)
        parameters = self.parameter_parts()
        choices = rows * (size + 4)
        experts = parameters["experts"] + 2 * tokens * self.dim + 2 * rows * self.hidden
        return {
            "router": (tokens * self.dim + parameters["router"]) * size + choices,
            "experts": choices + experts * size,
        }

    def activation_bytes(self, tokens: int) -> dict[str, int]:
        """Bytes kept for backward by part: tokens and logits; choices and pre-activations."""
        size, rows = self.up.element_size(), self.experts * self.capacity(tokens)
        return {
            "router": tokens * (self.dim + self.experts) * size,
            "experts": rows * (self.hidden * size + size + 4),
        }

    def extra_repr(self) -> str:
        return (
            f"experts={self.experts}, hidden={self.hidden}, capacity_factor={self.capacity_factor}, "
            f"activation={self.activation!r}, gain={self.gain:.3g}"
        )
