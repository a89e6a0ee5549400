"""Memory+ (Berges et al., arXiv 2412.09764, section 3): a gated product-key memory for several blocks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.moments import GELU_SECOND_MOMENT, SILU_SECOND_MOMENT
from peer.choice import resolve
from peer.counted import Counted
from peer.functional import bag, check_table_grad, check_tables_fit
from peer.router import ProductKeyRouter
from peer.sizes import check_sizes, check_square


class MemoryPlus(Counted, nn.Module):
    """((Σ_h Σ_k w · V_i) * silu(x · gate)) · out, with exact product keys and one table V for all sites.

    Heads have sub-keys of their own, w is a softmax over the K rows of a head. Differs from the source:
    output variance at initialisation is the dense layer's, and no norm on queries, which it uses only
    where small models need it.

    Maps (..., dim) to (..., dim).

    Args:
        dim: D, model width.
        values: the table (N, V) of a layer at another site, to read the same rows; None makes one. A layer
            counts and trains only the table that it made, so that a model's sums have it once.
        memories: N, a perfect square.
        heads, topk, query_norm, impl: as in `peer.PEER`.
        dim_value: V, width of a value; by default `dim`.
        dim_key: width of a query; by default the even number nearest below V / 2.
        table_grad: "dense" or "sparse", as in `peer.PEER`; no optimizer may step inside backward, where
            a site would read rows that another has changed.
    """

    def __init__(
        self,
        dim: int,
        values: nn.Parameter | None = None,
        *,
        memories: int = 1024**2,
        heads: int = 4,
        topk: int = 32,
        dim_value: int | None = None,
        dim_key: int | None = None,
        query_norm: str | None = None,
        table_grad: str = "dense",
        impl: str = "auto",
    ) -> None:
        super().__init__()
        check_sizes(dim=dim)
        check_square(memories=memories)
        self.dim, self.impl = dim, impl
        self.dim_value = dim if dim_value is None else dim_value
        check_sizes(dim_value=self.dim_value)
        self.dim_key = max(2, 2 * (self.dim_value // 4)) if dim_key is None else dim_key
        self.table_grad = table_grad
        self.router = ProductKeyRouter(
            dim,
            experts=memories,
            heads=heads,
            topk=topk,
            dim_key=self.dim_key,
            query_norm=query_norm,
            scores="softmax",
            shared_keys=False,
            impl=impl,
        )
        self.owns_values = values is None
        if values is None:
            check_tables_fit(1, memories, self.dim_value)
            values = nn.Parameter(torch.empty(memories, self.dim_value))
        elif values.shape != (memories, self.dim_value):
            raise ValueError(
                f"values must be (memories, dim_value) = ({memories}, {self.dim_value}); "
                f"got {tuple(values.shape)}"
            )
        self.values = values
        self.gate = nn.Linear(dim, self.dim_value, bias=False)
        self.out = nn.Linear(self.dim_value, dim, bias=False)
        check_table_grad(table_grad, resolve(impl, self.values.device, self.values.dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Output variance E[gelu(z)²], z ~ N(0, 1): Σ w² · var(values) · E[silu(z)²]; a lent table stays."""
        self.router.reset_parameters()
        for matrix in (self.gate, self.out):
            nn.init.normal_(matrix.weight, std=matrix.in_features**-0.5)
        if self.owns_values:
            memory = SILU_SECOND_MOMENT * self.router.squared_scores_at_init()
            nn.init.normal_(self.values, std=(GELU_SECOND_MOMENT / memory) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (..., D) → (..., D)."""
        if x.shape[-1] != self.dim:
            raise ValueError(f"the last axis must be dim={self.dim}; got {tuple(x.shape)}")
        x_TD = x.reshape(-1, self.dim)
        scores_THK, ids_THK = self.router(x_TD)
        y_TV = bag(
            ids_THK.flatten(1),
            scores_THK.flatten(1).to(self.values.dtype),
            self.values,
            table_grad=self.table_grad,
            impl=self.impl,
        )
        return self.out(y_TV * F.silu(self.gate(x_TD))).view(x.shape)

    def lends(self) -> tuple[nn.Parameter]:
        """What a layer at a further site takes after `dim`."""
        return (self.values,)

    def tables(self) -> list[nn.Parameter]:
        return [self.values] if self.owns_values else []

    def parameter_parts(self) -> dict[str, int]:
        """Parameters by part; a table that another layer made counts there."""
        return self.router.parameter_parts() | {
            "values": self.values.numel() if self.owns_values else 0,
            "gate": 2 * self.dim * self.dim_value,
        }

    def active_parameter_parts(self) -> dict[str, int]:
        """By part: router and gate, and the rows of a token's H·K memories at this site."""
        rows = self.router.heads * self.router.topk
        return self.parameter_parts() | {"values": rows * self.dim_value}

    def selected(self, x: Tensor) -> Tensor:
        """Ids (T, H, K) of the memories that tokens (..., D) read."""
        return self.router(x.reshape(-1, self.dim))[1]

    def flops(self, tokens: int) -> dict[str, int]:
        """Forward FLOPs by part, a multiply-add counted as 2."""
        pairs = tokens * self.router.heads * self.router.topk
        return self.router.flops(tokens) | {
            "values": 2 * pairs * self.dim_value,
            "gate": 4 * tokens * self.dim * self.dim_value,
        }

    def bytes_moved(self, tokens: int, ids: Tensor | None = None) -> dict[str, int]:
        """Bytes of one forward call by part, each distinct row read once; see `peer.PEER.bytes_moved`."""
        size, pairs = self.values.element_size(), tokens * self.router.heads * self.router.topk
        rows = self.router.distinct(tokens, ids)
        matrices = 2 * self.dim * self.dim_value
        # Tokens, the gate out and in again, the memory's output in, the result out.
        streams = tokens * (2 * self.dim + 3 * self.dim_value)
        return self.router.bytes_moved(tokens) | {
            "values": (tokens + rows) * self.dim_value * size + pairs * (size + 4),
            "gate": (matrices + streams) * size,
        }

    def activation_bytes(self, tokens: int) -> dict[str, int]:
        """Bytes kept for backward by part; the gate keeps the memory's output and its pre-activations."""
        size = self.values.element_size()
        return self.router.activation_bytes(tokens) | {
            "values": 0,
            "gate": 2 * tokens * self.dim_value * size,
        }

    @property
    def implementation(self) -> str:
        """The implementation that `impl` means on the device and dtype at hand."""
        return resolve(self.impl, self.values.device, self.values.dtype)

    def extra_repr(self) -> str:
        lent = "" if self.owns_values else ", values of another site"
        return (
            f"table_grad={self.table_grad!r}, impl={self.impl!r} -> {self.implementation!r}{lent}"
        )
