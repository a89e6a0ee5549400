"""Sparsely gated tiny linear experts, "sgatlin" (Schug, arXiv 2606.07414), on the same retrieval as PEER."""

import torch
from torch import Tensor, nn

from baselines.moments import GELU_SECOND_MOMENT
from peer.choice import resolve
from peer.counted import Counted
from peer.functional import (
    check_one_of,
    check_table_grad,
    check_tables_fit,
    experts,
    named_grad,
)
from peer.optim import RowOptimizer
from peer.reference import ACTIVATIONS
from peer.router import ProductKeyRouter
from peer.sizes import check_sizes


class SparselyGatedLinear(Counted, nn.Module):
    """y = Σ_h Σ_k score · (down_i · x) · up_i: PEER's experts without activation, gated by raw matches.

    Four switches part it from PEER, each alone: `activation`, `scores`, `shared_query`, `shared_pool`.
    Set to "gelu", "softmax", False, True it is `peer.PEER` with sub-keys per head, which this layer
    always has. Differs from the source: output variance at initialisation is the dense layer's, where
    its tables have variance 1 / N whatever their width.

    Maps (..., dim) to (..., dim).

    Args:
        dim: D, model width.
        experts: N of a pool, a perfect square; H·N experts in all where every head has its own pool.
        heads, topk, dim_key, query_norm, table_grad, impl: as in `peer.PEER`.
        activation: "none", or one of PEER's between the two vectors of an expert.
        scores: "raw", the matches themselves, or one of PEER's over the K of a head.
        shared_query: one query for all heads, or one per head.
        shared_pool: one pool for all heads, or one per head.
    """

    def __init__(
        self,
        dim: int,
        *,
        experts: int = 256**2,
        heads: int = 16,
        topk: int = 8,
        dim_key: int = 128,
        activation: str = "none",
        scores: str = "raw",
        shared_query: bool = True,
        shared_pool: bool = False,
        query_norm: str | None = None,
        table_grad: str = "dense",
        impl: str = "auto",
    ) -> None:
        super().__init__()
        check_sizes(dim=dim)
        check_one_of("activation", activation, ACTIVATIONS)
        self.router = ProductKeyRouter(
            dim,
            experts=experts,
            heads=heads,
            topk=topk,
            dim_key=dim_key,
            query_norm=query_norm,
            scores=scores,
            shared_keys=False,
            impl=impl,
            shared_query=shared_query,
            own_pools=not shared_pool,
        )
        check_tables_fit(2, self.router.pool, dim)
        self.dim, self.activation, self.impl = dim, activation, impl
        self.table_grad: str | RowOptimizer = table_grad
        self.down = nn.Parameter(torch.empty(self.router.pool, dim))
        self.up = nn.Parameter(torch.empty(self.router.pool, dim))
        check_table_grad(table_grad, resolve(impl, self.down.device, self.down.dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Output variance equal to the dense layer's for tokens of unit variance, as in `peer.PEER`.

        Without an activation a hidden neuron has variance 1, and var(up) takes E[gelu(z)²] in its place.
        """
        self.router.reset_parameters()
        nn.init.normal_(self.down, std=self.dim**-0.5)
        variance = GELU_SECOND_MOMENT if self.activation == "none" else 1.0
        nn.init.normal_(self.up, std=(variance / self.router.squared_scores_at_init()) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (..., D) → (..., D)."""
        if x.shape[-1] != self.dim:
            raise ValueError(f"the last axis must be dim={self.dim}; got {tuple(x.shape)}")
        x_TD = x.reshape(-1, self.dim)
        scores_THK, ids_THK = self.router(x_TD)
        y_TD = experts(
            x_TD,
            ids_THK.flatten(1),
            scores_THK.flatten(1).to(x.dtype),
            self.down,
            self.up,
            activation=self.activation,
            table_grad=self.table_grad,
            impl=self.impl,
        )
        return y_TD.view(x.shape).to(x.dtype)

    def tables(self) -> list[nn.Parameter]:
        return [self.down, self.up]

    def parameter_parts(self) -> dict[str, int]:
        """Parameters by part."""
        return self.router.parameter_parts() | {"experts": self.down.numel() + self.up.numel()}

    def active_parameter_parts(self) -> dict[str, int]:
        """Parameters one token meets, by part: the whole router and the rows of its H·K experts."""
        rows = 2 * self.router.heads * self.router.topk
        return self.router.parameter_parts() | {"experts": rows * self.dim}

    def selected(self, x: Tensor) -> Tensor:
        """Ids (T, H, K) of the experts that tokens (..., D) read, in [0, H·N) where heads have pools."""
        return self.router(x.reshape(-1, self.dim))[1]

    def flops(self, tokens: int) -> dict[str, int]:
        """Forward FLOPs by part, a multiply-add counted as 2."""
        pairs = tokens * self.router.heads * self.router.topk
        return self.router.flops(tokens) | {"experts": 4 * pairs * self.dim}

    def bytes_moved(self, tokens: int, ids: Tensor | None = None) -> dict[str, int]:
        """Bytes of one forward call by part, each distinct expert read once; see `peer.PEER.bytes_moved`."""
        size, pairs = self.down.element_size(), tokens * self.router.heads * self.router.topk
        rows = 2 * self.router.distinct(tokens, ids)
        experts = (2 * tokens + rows) * self.dim * size + pairs * (size + 4)
        return self.router.bytes_moved(tokens) | {"experts": experts}

    def activation_bytes(self, tokens: int) -> dict[str, int]:
        """Bytes kept for backward by part; the experts add a hidden neuron per pair."""
        pairs = tokens * self.router.heads * self.router.topk
        return self.router.activation_bytes(tokens) | {"experts": pairs * self.down.element_size()}

    @property
    def implementation(self) -> str:
        """The implementation that `impl` means on the device and dtype at hand."""
        return resolve(self.impl, self.down.device, self.down.dtype)

    def extra_repr(self) -> str:
        return (
            f"activation={self.activation!r}, table_grad={named_grad(self.table_grad)}, "
            f"impl={self.impl!r} -> {self.implementation!r}"
        )
