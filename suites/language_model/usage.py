"""How many experts a model uses and how unevenly, as the paper's Table 2 defines it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from peer.router import ProductKeyRouter
from suites.language_model.decoder import Decoder

SHARES = (0.0, *(2.0**-halvings for halvings in range(6, -1, -1)))  # of the steps of a run


class Usage:
    """z' of every product-key router of a model: Σ over tokens and heads of |g_i|, float64 (N,).

    Only raw scores are ever negative, and N counts the experts of all pools. A model without such a router
    has no usage and no metrics.
    """

    def __init__(self, model: nn.Module) -> None:
        self.sums = {
            router: torch.zeros(router.pool, dtype=torch.float64, device=router.query.weight.device)
            for router in model.modules()
            if isinstance(router, ProductKeyRouter)
        }

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Adds the scores of every forward call within the block."""
        hooks = [router.register_forward_hook(self.add) for router in self.sums]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def add(self, router: nn.Module, given: tuple[Tensor], routed: tuple[Tensor, Tensor]) -> None:
        assert isinstance(router, ProductKeyRouter)
        scores_THK, ids_THK = (part.detach().flatten() for part in routed)
        self.sums[router].index_add_(0, ids_THK.long(), scores_THK.double().abs())

    def metrics(self) -> dict[str, float]:
        """Means over the model's sparse layers; empty where it has none."""
        found = [usage(sums) for sums in self.sums.values()]
        return (
            {name: sum(one[name] for one in found) / len(found) for name in found[0]}
            if found
            else {}
        )


def usage(sums_N: Tensor) -> dict[str, float]:
    """Of z' (N,): the share of experts with z_i ≠ 0, and KL(z ‖ uniform) = log N + Σ z_i log z_i.

    Where nothing has a score, nothing is used and the unevenness is the largest there is, log N.
    """
    N, total = len(sums_N), float(sums_N.sum())
    unevenness = math.log(N)
    if total > 0:
        z_N = sums_N / total
        unevenness += float(torch.xlogy(z_N, z_N).sum())
    return {
        "expert_usage_percent": 100 * float((sums_N != 0).sum()) / N,
        "unevenness_nats": max(0.0, unevenness),
    }


@torch.no_grad()
def usage_on(model: Decoder, inputs_BL: Tensor) -> dict[str, float]:
    """Usage over a batch of token ids (B, L) in evaluation mode; the mode is put back."""
    counted, training = Usage(model), model.training
    if not counted.sums:
        return {}
    model.eval()
    with counted.counted():
        model(inputs_BL)
    model.train(training)
    return counted.metrics()


def points(steps: int) -> set[int]:
    """Numbers of steps after which a run of `steps` looks at its usage: before the first, then by halves."""
    return {round(share * steps) for share in SHARES}
