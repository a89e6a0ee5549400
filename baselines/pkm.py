"""Product-key memory (Lample et al., arXiv 1907.05242) on the same retrieval as PEER."""

import torch
from torch import Tensor, nn

from baselines.moments import GELU_SECOND_MOMENT
from peer.choice import resolve
from peer.counted import Counted
from peer.functional import bag, check_table_grad, check_tables_fit, named_grad
from peer.optim import RowOptimizer
from peer.router import ProductKeyRouter
from peer.sizes import check_sizes, check_square


class PKM(Counted, nn.Module):
    """A memory of N value rows: the scores of the H·K retrieved rows weigh their sum.

    Maps (..., dim) to (..., dim). The defaults are the baseline of the PEER paper.

    Args:
        dim: D, width of tokens and values.
        memories: N, a perfect square.
        heads, topk, dim_key, query_norm, scores, table_grad: as in `peer.PEER`.
        shared_keys: False gives each head its own sub-keys, as in PKM's own source.
        impl: as in `peer.PEER`.
    """

    def __init__(
        self,
        dim: int,
        *,
        memories: int = 1024**2,
        heads: int = 8,
        topk: int = 32,
        dim_key: int = 128,
        query_norm: str | None = "batch",
        scores: str = "softmax",
        shared_keys: bool = False,
        table_grad: str = "dense",
        impl: str = "auto",
    ) -> None:
        super().__init__()
        check_sizes(dim=dim)
        check_square(memories=memories)
        check_tables_fit(1, memories, dim)
        self.router = ProductKeyRouter(
            dim,
            experts=memories,
            heads=heads,
            topk=topk,
            dim_key=dim_key,
            query_norm=query_norm,
            scores=scores,
            shared_keys=shared_keys,
            impl=impl,
        )
        self.dim, self.impl = dim, impl
        self.table_grad: str | RowOptimizer = table_grad
        self.values = nn.Parameter(torch.empty(memories, dim))
        check_table_grad(table_grad, resolve(impl, self.values.device, self.values.dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Output variance E[gelu(z)²], z ~ N(0, 1): that of the dense layer, 0.425."""
        self.router.reset_parameters()
        variance = GELU_SECOND_MOMENT / self.router.squared_scores_at_init()
        nn.init.normal_(self.values, std=variance**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (..., D) → (..., D)."""
        if x.shape[-1] != self.dim:
            raise ValueError(f"the last axis must be dim={self.dim}; got {tuple(x.shape)}")
        scores_THK, ids_THK = self.router(x.reshape(-1, self.dim))
        scores_TP = scores_THK.flatten(1).to(self.values.dtype)
        y_TD = bag(
            ids_THK.flatten(1),
            scores_TP,
            self.values,
            table_grad=self.table_grad,
            check_ids=False,
            impl=self.impl,
        )
        return y_TD.view(x.shape)

    def tables(self) -> list[nn.Parameter]:
        return [self.values]

    def parameter_parts(self) -> dict[str, int]:
        """Parameters by part."""
        return self.router.parameter_parts() | {"values": self.values.numel()}

    def active_parameter_parts(self) -> dict[str, int]:
        """By part: the whole router and the rows of a token's H·K memories."""
        rows = self.router.heads * self.router.topk
        return self.router.parameter_parts() | {"values": rows * self.dim}

    def selected(self, x: Tensor) -> Tensor:
        """Ids (T, H, K) of the memories that tokens (..., D) read."""
        return self.router(x.reshape(-1, self.dim))[1]

    def flops(self, tokens: int) -> dict[str, int]:
        """Forward FLOPs by part, a multiply-add counted as 2."""
        pairs = tokens * self.router.heads * self.router.topk
        return self.router.flops(tokens) | {"values": 2 * pairs * self.dim}

    def bytes_moved(self, tokens: int, ids: Tensor | None = None) -> dict[str, int]:
        """Bytes of one forward call by part, each distinct row read once; see `peer.PEER.bytes_moved`."""
        size, pairs = self.values.element_size(), tokens * self.router.heads * self.router.topk
        rows = self.router.distinct(tokens, ids)
        values = (tokens + rows) * self.dim * size + pairs * (size + 4)
        return self.router.bytes_moved(tokens) | {"values": values}

    def activation_bytes(self, tokens: int) -> dict[str, int]:
        """Bytes kept for backward by part; the values need only scores and ids."""
        return self.router.activation_bytes(tokens) | {"values": 0}

    @property
    def implementation(self) -> str:
        """The implementation that `impl` means on the device and dtype at hand."""
        return resolve(self.impl, self.values.device, self.values.dtype)

    def extra_repr(self) -> str:
        return f"table_grad={named_grad(self.table_grad)}, impl={self.impl!r} -> {self.implementation!r}"
