"""The dense feed-forward layer that every sparse layer replaces."""

from torch import Tensor, nn

from peer.counted import Counted
from peer.functional import check_one_of
from peer.reference import ACTIVATIONS
from peer.sizes import check_sizes


class DenseFFW(Counted, nn.Module):
    """down(σ(up(x))), without biases; with `glu`, down(σ(gate(x)) · up(x)).

    Args:
        dim: D, model width.
        hidden: F, hidden width; by default 4·D, and 8·D/3 with `glu`, which costs the same FLOPs.
        activation: "gelu", "relu", "silu" or "none".
        glu: the gated variant with a third matrix.
    """

    def __init__(
        self, dim: int, *, hidden: int | None = None, activation: str = "gelu", glu: bool = False
    ) -> None:
        super().__init__()
        check_sizes(dim=dim)
        check_one_of("activation", activation, ACTIVATIONS)
        self.dim, self.activation = dim, activation
        own = max(1, round(8 * dim / 3)) if glu else 4 * dim
        self.hidden = own if hidden is None else hidden
        check_sizes(hidden=self.hidden)
        self.up = nn.Linear(dim, self.hidden, bias=False)
        self.gate = nn.Linear(dim, self.hidden, bias=False) if glu else None
        self.down = nn.Linear(self.hidden, dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Unit-variance hidden pre-activations; an output variance of E[σ(z)²], z ~ N(0, 1)."""
        for matrix in (self.up, self.gate, self.down):
            if matrix is not None:
                nn.init.normal_(matrix.weight, std=matrix.in_features**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (..., D) → (..., D)."""
        if self.gate is None:
            return self.down(ACTIVATIONS[self.activation](self.up(x)))
        return self.down(ACTIVATIONS[self.activation](self.gate(x)) * self.up(x))

    def parameter_parts(self) -> dict[str, int]:
        return {"ffw": sum(p.numel() for p in self.parameters())}

    def selected(self, x: Tensor) -> None:
        """Every token meets every parameter."""

    def flops(self, tokens: int) -> dict[str, int]:
        """Forward FLOPs, a multiply-add counted as 2."""
        return {"ffw": 2 * tokens * self.active_parameters()}

    def bytes_moved(self, tokens: int, ids: Tensor | None = None) -> dict[str, int]:
        """Bytes of one forward call: matrices once, tokens in and out, the hidden layer out and in."""
        size = self.up.weight.element_size()
        return {"ffw": (self.active_parameters() + 2 * tokens * (self.dim + self.hidden)) * size}

    def activation_bytes(self, tokens: int) -> dict[str, int]:
        """Bytes kept for backward: tokens and pre-activations, from which the hidden layer is recomputed."""
        hidden = self.hidden if self.gate is None else 2 * self.hidden
        return {"ffw": tokens * (self.dim + hidden) * self.up.weight.element_size()}

    def extra_repr(self) -> str:
        return f"activation={self.activation!r}, glu={self.gate is not None}"
