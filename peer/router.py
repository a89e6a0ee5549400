"""Product-key routing: the query network and the two sets of sub-keys, shared by PEER and by
PKM.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peer.functional import check_one_of, retrieve
from peer.reference import SCORES
from peer.sizes import check_sizes, check_square

QUERY_NORMS = ("batch", "layer", None)


class ProductKeyRouter(nn.Module):
    """Maps a token to H·K of N experts and their scores (paper, eq. 1, 2, 4, 5 and Algorithm 1).

    Args:
        dim: D, model width.
        experts: N, a perfect square.
        heads: H, each with its own query.
        topk: K experts per head, at most √N.
        dim_key: width of a query, even; each half meets its own √N sub-keys.
        query_norm: over the query network's output: "batch" (the paper's), "layer" (per query) or None.
        scores: nonlinearity over the selected experts: "softmax" (the paper's), "sigmoid", "relu" or
            "raw", none.
        shared_keys: one set of sub-keys for all heads (the paper's), or one per head (PKM's).
        impl: see `peer.functional`.
        shared_query: one query for all heads, which then need sub-keys of their own.
        own_pools: head h chooses among experts h·N … h·N + N − 1 instead of one pool of N for all.
    """

    def __init__(
        self,
        dim: int,
        *,
        experts: int,
        heads: int,
        topk: int,
        dim_key: int,
        query_norm: str | None,
        scores: str,
        shared_keys: bool,
        impl: str,
        shared_query: bool = False,
        own_pools: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(dim=dim, heads=heads, topk=topk, dim_key=dim_key)
        check_square(experts=experts)
        check_one_of("scores", scores, SCORES)
        if query_norm not in QUERY_NORMS:
            raise ValueError(f"query_norm must be 'batch', 'layer' or None; got {query_norm!r}")
        if dim_key % 2:
            raise ValueError(f"dim_key must be even, one half per sub-key; got {dim_key}")
        sub_keys = math.isqrt(experts)
        if topk > sub_keys:
            raise ValueError(f"topk must be at most √experts = {sub_keys}; got {topk}")
        if shared_query and shared_keys:
            raise ValueError(
                "shared_query needs shared_keys=False: heads with one query and one set of sub-keys "
                "choose the same experts"
            )
        self.dim, self.experts, self.heads, self.topk, self.dim_key = (
            dim,
            experts,
            heads,
            topk,
            dim_key,
        )
        self.query_norm, self.scores, self.shared_keys, self.impl = (
            query_norm,
            scores,
            shared_keys,
            impl,
        )
        self.queries = 1 if shared_query else heads
        self.own_pools = own_pools
        # Both norms bring a bias of their own.
        self.query = nn.Linear(dim, self.queries * dim_key, bias=query_norm is None)
        self.norm: nn.Module
        if query_norm == "batch":
            self.norm = nn.BatchNorm1d(self.queries * dim_key)
        elif query_norm == "layer":
            self.norm = nn.LayerNorm(dim_key)
        else:
            self.norm = nn.Identity()
        shape = (2, sub_keys, dim_key // 2) if shared_keys else (2, heads, sub_keys, dim_key // 2)
        self.sub_keys = nn.Parameter(torch.empty(shape))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Unit-variance queries and product keys whose match with a query has unit variance."""
        nn.init.normal_(self.query.weight, std=self.dim**-0.5)
        if self.query.bias is not None:
            nn.init.zeros_(self.query.bias)
        if isinstance(self.norm, nn.BatchNorm1d | nn.LayerNorm):
            self.norm.reset_parameters()
        nn.init.normal_(self.sub_keys, std=self.dim_key**-0.5)

    def forward(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (T, D) → scores (T, H, K) and expert ids (T, H, K) int32."""
        query = self.normed(self.query(x_TD))
        query_THQ = query.view(-1, self.queries, self.dim_key).expand(-1, self.heads, -1)
        scores_THK, ids_THK = retrieve(
            query_THQ, self.sub_keys.to(query.dtype), self.topk, scores=self.scores, impl=self.impl
        )
        if self.own_pools:
            head = torch.arange(self.heads, dtype=ids_THK.dtype, device=ids_THK.device)
            ids_THK = ids_THK + self.experts * head.unsqueeze(-1)
        return scores_THK, ids_THK

    @property
    def pool(self) -> int:
        """Experts in all pools together."""
        return self.experts * (self.heads if self.own_pools else 1)

    def normed(self, query: Tensor) -> Tensor:
        """Queries (T, H · dim_key) after their norm; without tokens, batch statistics stay as they are."""
        if self.query_norm == "layer":
            return self.norm(query.unflatten(-1, (self.queries, -1)))
        if isinstance(self.norm, nn.BatchNorm1d) and query.shape[0] == 0:
            # Still through the norm: DDP waits for the gradient of every parameter.
            norm = self.norm
            return F.batch_norm(
                query, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        return self.norm(query)

    def squared_scores_at_init(self) -> float:
        """E[Σ_heads Σ_k score²] at initialisation, where a match is a standard normal.

        The i-th best of N matches lies near the normal quantile 1 − (i − ½)/N, so the selected
        scores are the nonlinearity of those K quantiles. The median of a single one, 0, does not
        stand for its size, 1.
        """
        rank = torch.arange(self.topk, dtype=torch.float64, device="cpu")
        best = torch.special.ndtri(1 - (rank + 0.5) / self.experts)
        if self.experts == 1:
            best = torch.ones_like(best)
        return self.heads * SCORES[self.scores](best).square().sum().item()

    def flops(self, tokens: int) -> dict[str, int]:
        """Forward FLOPs by part, a multiply-add counted as 2; comparisons and norms are left
        out.
        """
        return {
            "query": 2 * tokens * self.queries * self.dim_key * self.dim,
            "sub_keys": 2 * tokens * self.heads * self.dim_key * self.sub_keys.shape[-2],
            "merge": 0,
        }

    def parameter_parts(self) -> dict[str, int]:
        """Parameters by part; every token meets all of them."""
        query = [*self.query.parameters(), *self.norm.parameters()]
        return {
            "query": sum(p.numel() for p in query),
            "sub_keys": self.sub_keys.numel(),
            "merge": 0,
        }

    def distinct(self, tokens: int, ids: Tensor | None = None) -> int:
        """Experts that a call with `tokens` reads at least once, of the given ids or of uniform routing.

        A head's K ids are distinct, so uniform routing leaves an expert out with (1 − K/N)^(T·H), and
        one of a head's own pool with (1 − K/N)^T.
        """
        if ids is not None:
            return ids.unique().numel()
        draws = tokens * (1 if self.own_pools else self.heads)
        return round(self.pool * (1 - (1 - self.topk / self.experts) ** draws))

    def bytes_moved(self, tokens: int) -> dict[str, int]:
        """Bytes of one forward call by part: a part reads its operands once and writes its results once."""
        size, parameters = self.sub_keys.element_size(), self.parameter_parts()
        queries = tokens * self.queries * self.dim_key * size
        # A candidate is a score and an int32 position.
        candidates = tokens * self.heads * 2 * self.topk * (size + 4)
        return {
            "query": (tokens * self.dim + parameters["query"]) * size + queries,
            "sub_keys": queries + parameters["sub_keys"] * size + candidates,
            "merge": candidates + candidates // 2,
        }

    def activation_bytes(self, tokens: int) -> dict[str, int]:
        """Bytes kept for backward by part: inputs of products, scores and ids."""
        size = self.sub_keys.element_size()
        return {
            "query": tokens * self.dim * size,
            "sub_keys": tokens * self.queries * self.dim_key * size,
            "merge": tokens * self.heads * self.topk * (size + 4),
        }

    def extra_repr(self) -> str:
        return (
            f"dim={self.dim}, experts={self.experts}, heads={self.heads}, topk={self.topk}, "
            f"dim_key={self.dim_key}, query_norm={self.query_norm!r}, scores={self.scores!r}, "
            f"shared_keys={self.shared_keys}, shared_query={self.queries < self.heads}, "
            f"own_pools={self.own_pools}"
        )
