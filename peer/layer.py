"""The PEER layer: a product-key router in front of N single-neuron experts."""

import torch
from torch import Tensor, nn

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
from peer.serving import is_served, serve
from peer.sizes import check_sizes, check_square

INITS = ("matched", "unit")


class PEER(Counted, nn.Module):
    """Parameter Efficient Expert Retrieval (arXiv 2407.04153, section 2), a drop-in for a
    feed-forward layer.

    Maps (..., dim) to (..., dim). The defaults are the paper's.

    Args:
        dim: D, model width.
        experts: N, a perfect square; all heads share this one pool.
        heads: H, independent queries; their outputs are summed.
        topk: K experts retrieved per head; granularity (eq. 10) is heads · topk.
        dim_key: width of a query; the paper does not state it, 128 is PKM's.
        query_norm: "batch", "layer" or None, over the query network's output. Activation checkpointing
            calls the layer twice, so that "batch" moves its running statistics twice a step: by 0.19
            and not by 0.1 towards the batch's. Training is unchanged, evaluation follows faster.
        scores: "softmax", "sigmoid" or "relu", over the K selected experts of a head, or "raw".
        activation: "gelu", "relu", "silu" or "none", of the single hidden neuron.
        shared_keys: one set of sub-keys for all heads, as in the paper, or one per head.
        glu: experts are gated, σ(gateᵀx) · (downᵀx) · up, with a third table.
        table_grad: gradients of the expert tables: "dense", or "sparse" with the rows touched only, which
            torch neither clips nor shards: leave the tables out of `clip_grad_norm_`, and out of FSDP.
            An optimizer set later, `layer.table_grad = peer.optim.TouchedAdamW(layer.tables())`, takes
            its step inside backward and leaves them no gradient.
        init: "matched", outputs start as large as a dense layer's, or "unit", tables of N(0, 1).
        impl: "auto", or one of `peer.choice.IMPLEMENTATIONS` by name; a name that cannot run
            raises.

    Raises:
        ValueError: N that is no square, K above √N, an odd dim_key, an unknown name.
        MemoryError: tables larger than the memory that there is, on a CPU.
    """

    def __init__(
        self,
        dim: int,
        *,
        experts: int = 1024**2,
        heads: int = 8,
        topk: int = 16,
        dim_key: int = 128,
        query_norm: str | None = "batch",
        scores: str = "softmax",
        activation: str = "gelu",
        shared_keys: bool = True,
        glu: bool = False,
        table_grad: str = "dense",
        init: str = "matched",
        impl: str = "auto",
    ) -> None:
        super().__init__()
        check_one_of("activation", activation, ACTIVATIONS)
        check_one_of("init", init, INITS)
        check_sizes(dim=dim)
        check_square(experts=experts)
        check_tables_fit(3 if glu else 2, experts, dim)
        self.router = ProductKeyRouter(
            dim,
            experts=experts,
            heads=heads,
            topk=topk,
            dim_key=dim_key,
            query_norm=query_norm,
            scores=scores,
            shared_keys=shared_keys,
            impl=impl,
        )
        self.dim, self.activation, self.impl, self.init = dim, activation, impl, init
        self.table_grad: str | RowOptimizer = table_grad
        self.down = nn.Parameter(torch.empty(experts, dim))
        self.up = nn.Parameter(torch.empty(experts, dim))
        self.gate = nn.Parameter(torch.empty(experts, dim)) if glu else None
        check_table_grad(table_grad, resolve(impl, self.down.device, self.down.dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """With init "matched", output variance equal to the dense layer's for tokens of unit variance.

        A dense layer with weights N(0, 1/D) and N(0, 1/4D) has output variance E[σ(z)²], z ~ N(0,
        1). Here down ~ N(0, 1/D) makes each hidden neuron such a z, so a token's output has
        variance E[σ(z)²] · Σ score² · var(up), and var(up) = 1 / Σ score² restores equality. The
        GLU gate is scaled like `down` and so matches a dense GLU in the same way.
        """
        self.router.reset_parameters()
        if self.init == "unit":
            for unit in self.tables():
                nn.init.normal_(unit)
            return
        for table in (self.down, self.gate):
            if table is not None:
                nn.init.normal_(table, std=self.dim**-0.5)
        nn.init.normal_(self.up, std=self.router.squared_scores_at_init() ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (..., D) → (..., D); ValueError for tokens of another width."""
        if x.shape[-1] != self.dim:
            raise ValueError(f"the last axis must be dim={self.dim}; got {tuple(x.shape)}")
        x_TD = x.reshape(-1, self.dim)
        if is_served(self, x_TD):
            return serve(self, x_TD).view(x.shape)
        scores_THK, ids_THK = self.router(x_TD)
        y_TD = experts(
            x_TD,
            ids_THK.flatten(1),
            scores_THK.flatten(1).to(x.dtype),
            self.down,
            self.up,
            self.gate,
            activation=self.activation,
            table_grad=self.table_grad,
            check_ids=False,
            impl=self.impl,
        )
        return y_TD.view(x.shape).to(x.dtype)

    def tables(self) -> list[nn.Parameter]:
        """The parameters that are read sparsely and take a learning rate of their own."""
        return [table for table in (self.down, self.up, self.gate) if table is not None]

    def parameter_parts(self) -> dict[str, int]:
        """Parameters by part."""
        return self.router.parameter_parts() | {"experts": sum(t.numel() for t in self.tables())}

    def active_parameter_parts(self) -> dict[str, int]:
        """Parameters one token meets, by part: the whole router and the rows of its H·K experts."""
        rows = self.router.heads * self.router.topk * len(self.tables())
        return self.router.parameter_parts() | {"experts": rows * self.dim}

    def selected(self, x: Tensor) -> Tensor:
        """Ids (T, H, K), int32, of the experts that tokens (..., D) read."""
        return self.router(x.reshape(-1, self.dim))[1]

    def flops(self, tokens: int) -> dict[str, int]:
        """Forward FLOPs by part, a multiply-add counted as 2 (paper, section 2.3)."""
        pairs = tokens * self.router.heads * self.router.topk
        return self.router.flops(tokens) | {"experts": 2 * pairs * self.dim * len(self.tables())}

    def bytes_moved(self, tokens: int, ids: Tensor | None = None) -> dict[str, int]:
        """Bytes of one forward call by part, each distinct expert read once.

        `ids` are those really selected; without them the distinct experts are uniform routing's.
        """
        size, pairs = self.down.element_size(), tokens * self.router.heads * self.router.topk
        rows = self.router.distinct(tokens, ids) * len(self.tables())
        experts = (2 * tokens + rows) * self.dim * size + pairs * (size + 4)
        return self.router.bytes_moved(tokens) | {"experts": experts}

    def activation_bytes(self, tokens: int) -> dict[str, int]:
        """Bytes kept for backward by part; the experts add a pre-activation per pair, and GLU a second."""
        pairs = tokens * self.router.heads * self.router.topk
        hidden = pairs * (len(self.tables()) - 1) * self.down.element_size()
        return self.router.activation_bytes(tokens) | {"experts": hidden}

    @property
    def implementation(self) -> str:
        """The implementation that `impl` means on the device and dtype at hand."""
        return resolve(self.impl, self.down.device, self.down.dtype)

    def extra_repr(self) -> str:
        return (
            f"activation={self.activation!r}, glu={self.gate is not None}, "
            f"table_grad={named_grad(self.table_grad)}, init={self.init!r}, "
            f"impl={self.impl!r} -> {self.implementation!r}"
        )
