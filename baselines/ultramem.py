"""UltraMemV2 (arXiv 2508.18756; retrieval of UltraMem, 2411.12364): linear pairs beside the feed-forward."""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.dense import DenseFFW
from baselines.moments import GELU_SECOND_MOMENT
from peer.choice import resolve
from peer.counted import Counted
from peer.functional import bag, check_table_grad, check_tables_fit
from peer.sizes import check_sizes, check_square

SAMPLE_TOKENS = 512


class UltraMemV2(Counted, nn.Module):
    """ffw(x) + out · Σ_{i∈I} s_i · (down_i · (into · x)) · up_i: a memory beside a feed-forward.

    The score of pair (a, b) of S × S is Σ_ij C_ij · row_i(a) · column_j(b), with R queries and R sets of S
    sub-keys a side. **The selection is not exact**, unlike product keys: for the leading singular vectors
    u, t of C the K rows of largest u · row and the K columns of largest t · column are taken, and of their
    K² full scores the K largest. u and t are those of C after the last step (`after_step`, which a training
    loop calls after its optimizer's step), their sign the one with a positive sum. Scores are not
    normalised, experts have no activation, and there is no loss for balance.

    Differs from the source: both halves start with half of the dense layer's output variance, and C starts
    at (1 + δ_ij) / 2, between the 0 and 1 of which its code draws it.

    Maps (..., dim) to (..., dim); in a model it takes every block's place for a feed-forward.

    Args:
        dim: D, model width.
        experts: N = S² pairs, a perfect square.
        topk: K pairs per token, at most S.
        rank: R.
        dim_key: width of a query; by default D / 2.
        dim_in, dim_out: widths of an expert's two vectors; by default D / 4 and 3·D / 4.
        hidden: of the feed-forward, by default 4·D.
        table_grad: "dense" or "sparse" for `up`, as in `peer.PEER`; that of `down` is dense.
        impl: of the weighted sum of `up` rows, as in `peer.bag`.
    """

    row_filter: Tensor
    column_filter: Tensor

    def __init__(
        self,
        dim: int,
        *,
        experts: int = 512**2,
        topk: int = 24,
        rank: int = 2,
        dim_key: int | None = None,
        dim_in: int | None = None,
        dim_out: int | None = None,
        hidden: int | None = None,
        table_grad: str = "dense",
        impl: str = "auto",
    ) -> None:
        super().__init__()
        check_sizes(dim=dim, topk=topk, rank=rank)
        check_square(experts=experts)
        self.sub_keys = math.isqrt(experts)
        if topk > self.sub_keys:
            raise ValueError(f"topk must be at most √experts = {self.sub_keys}; got {topk}")
        self.dim, self.experts, self.topk, self.rank = dim, experts, topk, rank
        self.dim_key = max(1, dim // 2) if dim_key is None else dim_key
        self.dim_in = max(1, dim // 4) if dim_in is None else dim_in
        self.dim_out = max(1, 3 * dim // 4) if dim_out is None else dim_out
        check_sizes(dim_key=self.dim_key, dim_in=self.dim_in, dim_out=self.dim_out)
        self.table_grad, self.impl = table_grad, impl
        check_tables_fit(1, experts, self.dim_in + self.dim_out)
        self.ffw = DenseFFW(dim, hidden=hidden)
        self.hidden = self.ffw.hidden
        self.query = nn.Linear(dim, 2 * rank * self.dim_key, bias=False)
        self.query_norm = nn.RMSNorm(self.dim_key)
        self.keys = nn.Parameter(torch.empty(2, rank, self.sub_keys, self.dim_key))
        self.key_norm = nn.RMSNorm(self.dim_key)
        self.core = nn.Parameter(torch.empty(rank, rank))
        self.into = nn.Linear(dim, self.dim_in, bias=False)
        self.down = nn.Parameter(torch.empty(experts, self.dim_in))
        self.up = nn.Parameter(torch.empty(experts, self.dim_out))
        self.out = nn.Linear(self.dim_out, dim, bias=False)
        self.register_buffer("row_filter", torch.empty(rank))
        self.register_buffer("column_filter", torch.empty(rank))
        check_table_grad(table_grad, resolve(impl, self.up.device, self.up.dtype))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Output variance E[gelu(z)²], z ~ N(0, 1), half of it the memory's; the mean top score is 1.

        Norms with a weight g give sub-key scores of variance g⁴ · dim_key, and pair scores of g⁴ · dim_key
        times those of standard normals.
        """
        nn.init.ones_(self.core).add_(torch.eye(self.rank, device=self.core.device)).mul_(0.5)
        self.after_step()
        mean, squares = selected_scores(self.sub_keys, self.topk, self.rank)
        for norm in (self.query_norm, self.key_norm):
            nn.init.constant_(norm.weight, (mean * self.dim_key) ** -0.25)
        self.ffw.reset_parameters()
        nn.init.normal_(self.ffw.down.weight, std=(2 * self.hidden) ** -0.5)
        for matrix in (self.query, self.into, self.out):
            nn.init.normal_(matrix.weight, std=matrix.in_features**-0.5)
        nn.init.normal_(self.keys)
        nn.init.normal_(self.down, std=self.dim_in**-0.5)
        nn.init.normal_(self.up, std=(GELU_SECOND_MOMENT / 2 * mean**2 / squares) ** 0.5)

    @torch.no_grad()
    def after_step(self) -> None:
        """Takes the filters from the present `core`."""
        if not self.core.is_meta:
            row, column = leading(self.core)
            self.row_filter.copy_(row)
            self.column_filter.copy_(column)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (..., D) → (..., D)."""
        if x.shape[-1] != self.dim:
            raise ValueError(f"the last axis must be dim={self.dim}; got {tuple(x.shape)}")
        x_TD = x.reshape(-1, self.dim)
        scores_TK, ids_TK = self.retrieve(x_TD)
        hidden_TK = torch.einsum("ti,tki->tk", self.into(x_TD), F.embedding(ids_TK, self.down))
        y_TO = bag(
            ids_TK,
            (scores_TK * hidden_TK).to(self.up.dtype),
            self.up,
            table_grad=self.table_grad,
            impl=self.impl,
        )
        return (self.ffw(x_TD) + self.out(y_TO)).view(x.shape)

    def retrieve(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (T, K) and ids (T, K) of the pairs a·S + b, best first."""
        query_T2RQ = self.query_norm(self.query(x_TD).unflatten(-1, (2, self.rank, -1)))
        keys_2RSQ = self.key_norm(self.keys)
        rows_TRS, columns_TRS = torch.einsum("tcrq,crsq->ctrs", query_T2RQ, keys_2RSQ).unbind()
        row_TK = self.filtered(rows_TRS, self.row_filter)
        column_TK = self.filtered(columns_TRS, self.column_filter)
        rows_TRK, columns_TRK = (
            scores.gather(-1, chosen.unsqueeze(1).expand(-1, self.rank, -1))
            for scores, chosen in ((rows_TRS, row_TK), (columns_TRS, column_TK))
        )
        mixed_TRK = torch.einsum("ij,tjk->tik", self.core.to(columns_TRK.dtype), columns_TRK)
        pairs_TKK = torch.einsum("tra,trb->tab", rows_TRK, mixed_TRK)
        scores_TK, place = pairs_TKK.flatten(1).topk(self.topk, dim=-1)
        ids_TKK = row_TK.unsqueeze(-1) * self.sub_keys + column_TK.unsqueeze(1)
        return scores_TK, ids_TKK.flatten(1).gather(1, place)

    @torch.no_grad()
    def filtered(self, scores_TRS: Tensor, weights_R: Tensor) -> Tensor:
        """The K of S sub-keys with the largest weighted sum over ranks, (T, K)."""
        sums_TS = torch.einsum("r,trs->ts", weights_R.to(scores_TRS.dtype), scores_TRS)
        return sums_TS.topk(self.topk, dim=-1).indices

    def tables(self) -> list[nn.Parameter]:
        return [self.down, self.up]

    def parameter_parts(self) -> dict[str, int]:
        """Parameters by part."""
        return {
            "ffw": self.ffw.active_parameters(),
            "query": self.query.weight.numel() + self.query_norm.weight.numel(),
            "sub_keys": self.keys.numel() + self.key_norm.weight.numel(),
            "merge": self.core.numel(),
            "projections": self.into.weight.numel() + self.out.weight.numel(),
            "experts": self.down.numel() + self.up.numel(),
        }

    def active_parameter_parts(self) -> dict[str, int]:
        """By part: all but the tables, and the rows of a token's K pairs."""
        rows = self.topk * (self.dim_in + self.dim_out)
        return self.parameter_parts() | {"experts": rows}

    def selected(self, x: Tensor) -> Tensor:
        """Ids (T, K) of the pairs that tokens (..., D) read."""
        return self.retrieve(x.reshape(-1, self.dim))[1]

    def differentiated_flops(self, tokens: int) -> dict[str, int]:
        """Forward FLOPs by part of what has a gradient: all but the filter."""
        R, K = self.rank, self.topk
        return {
            "ffw": 2 * tokens * self.ffw.active_parameters(),
            "query": 2 * tokens * self.query.weight.numel(),
            "sub_keys": 2 * tokens * self.keys.numel(),
            "merge": 2 * tokens * R * K * (R + K),
            "projections": 2 * tokens * self.dim * (self.dim_in + self.dim_out),
            "experts": 2 * tokens * K * (self.dim_in + self.dim_out),
        }

    def flops(self, tokens: int) -> dict[str, int]:
        """Forward FLOPs by part, a multiply-add counted as 2; the filter is part of "merge"."""
        parts = self.differentiated_flops(tokens)
        filters = 2 * tokens * 2 * self.rank * self.sub_keys
        return parts | {"merge": parts["merge"] + filters}

    def backward_flops(self, tokens: int) -> dict[str, int]:
        """By part: the gradients of a product's two operands cost a product each; the filter has none."""
        return {part: 2 * flops for part, flops in self.differentiated_flops(tokens).items()}

    def bytes_moved(self, tokens: int, ids: Tensor | None = None) -> dict[str, int]:
        """Bytes of one forward call by part, each distinct pair read once; `ids` as in `peer.PEER`."""
        size, parameters = self.up.element_size(), self.parameter_parts()
        if ids is None:
            rows = round(self.experts * (1 - (1 - self.topk / self.experts) ** tokens))
        else:
            rows = ids.unique().numel()
        widths = self.dim_in + self.dim_out
        queries = 2 * tokens * self.rank * self.dim_key * size
        # A candidate is R scores and an int32 position.
        candidates = tokens * 2 * self.topk * (self.rank * size + 4)
        pairs = tokens * self.topk * (size + 4)
        return {
            "ffw": self.ffw.bytes_moved(tokens)["ffw"],
            "query": (tokens * self.dim + parameters["query"]) * size + queries,
            "sub_keys": queries + parameters["sub_keys"] * size + candidates,
            "merge": candidates + parameters["merge"] * size + pairs,
            "projections": (parameters["projections"] + tokens * (2 * self.dim + widths)) * size,
            "experts": (tokens + rows) * widths * size + pairs,
        }

    def activation_bytes(self, tokens: int) -> dict[str, int]:
        """Bytes kept for backward by part: inputs of products, scores and ids."""
        size = self.up.element_size()
        return {
            "ffw": self.ffw.activation_bytes(tokens)["ffw"],
            "query": 0,
            "sub_keys": tokens * 2 * self.rank * self.dim_key * size,
            "merge": tokens * self.topk * (2 * self.rank * size + 4),
            "projections": tokens * (self.dim_in + self.dim_out) * size,
            "experts": tokens * self.topk * 2 * size,
        }

    @property
    def implementation(self) -> str:
        """The implementation that `impl` means on the device and dtype at hand."""
        return resolve(self.impl, self.up.device, self.up.dtype)

    def extra_repr(self) -> str:
        return (
            f"experts={self.experts}, topk={self.topk}, rank={self.rank}, dim_key={self.dim_key}, "
            f"dim_in={self.dim_in}, dim_out={self.dim_out}, impl={self.impl!r} -> {self.implementation!r}"
        )


def leading(core_RR: Tensor) -> tuple[Tensor, Tensor]:
    """The leading left and right singular vectors (R,), with the sign that makes their sum positive."""
    left, _, right = torch.linalg.svd(core_RR.double())
    row, column = left[:, 0], right[0]
    sign = 1.0 if (row.sum() + column.sum()).item() >= 0 else -1.0
    return sign * row, sign * column


@functools.cache
def selected_scores(sub_keys: int, topk: int, rank: int) -> tuple[float, float]:
    """E[mean] and E[sum of squares] of the K selected scores at initialisation, of standard normal
    sub-key scores: a sample.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (2, SAMPLE_TOKENS, rank, sub_keys)
    scores = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    core = (
        torch.ones(rank, rank, dtype=torch.float64, device="cpu") + torch.eye(rank, device="cpu")
    ) / 2
    best = []
    for half, weights in zip(scores, leading(core), strict=True):
        chosen = torch.einsum("r,trs->ts", weights, half).topk(topk, dim=-1).indices
        best.append(half.gather(-1, chosen.unsqueeze(1).expand(-1, rank, -1)))
    pairs = torch.einsum("tra,rp,tpb->tab", best[0], core, best[1]).flatten(1)
    found = pairs.topk(topk, dim=-1).values
    return found.mean().item(), found.square().sum(-1).mean().item()
