"""What the tuner tries, as frozen values, dearest first."""

from collections.abc import Iterator
from typing import Literal

from suites.records.record import Model

Kernel = Literal["fused_experts_kernel", "runs_kernel", "weighted_sum_kernel", "retrieve_kernel"]
WALKS: tuple[Kernel, ...] = ("fused_experts_kernel", "runs_kernel", "weighted_sum_kernel")
WARPS, UNROLLS = (1, 2, 4, 8), (1, 2, 4, 8, 16)
COLUMNS_PER_WARP = (
    128  # at least: a lane loads 16 bytes of two rows, or its row is mostly idle lanes
)


class Trial(Model):
    """One kernel at one size with one choice of settings; without any, those that were counted."""

    kernel: Kernel
    dim: int
    tokens: int
    experts: int
    heads: int
    topk: int
    dim_key: int
    num_warps: int | None = None
    UNROLL: int | None = None

    @property
    def settings(self) -> dict[str, int]:
        named = {"num_warps": self.num_warps, "UNROLL": self.UNROLL}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def size(self) -> tuple[str, int, int]:
        return self.kernel, self.dim, self.tokens

    @property
    def name(self) -> str:
        chosen = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return f"{self.kernel} d={self.dim} T={self.tokens}: {chosen or 'as counted'}"


class Profile(Model):
    """`dims` and `tokens` are in the order of worth: time may end before the list does."""

    dims: tuple[int, ...]
    tokens: tuple[int, ...]
    experts: int
    heads: int = 8
    topk: int = 16
    dim_key: int = 128

    def trials(self) -> Iterator[Trial]:
        """By size, the counted settings first: without them nothing can be said to be faster."""
        for dim in self.dims:
            for tokens in self.tokens:
                for kernel in WALKS:
                    yield from self.tried(kernel, dim, tokens)
        for tokens in self.tokens:
            yield from self.tried("retrieve_kernel", self.dim_key, tokens)

    def tried(self, kernel: Kernel, dim: int, tokens: int) -> Iterator[Trial]:
        counted = Trial(
            kernel=kernel,
            dim=dim,
            tokens=tokens,
            experts=self.experts,
            heads=self.heads,
            topk=self.topk,
            dim_key=self.dim_key,
        )
        yield counted
        if kernel == "retrieve_kernel":
            yield from (counted.model_copy(update={"num_warps": warps}) for warps in (4, 8))
            return
        for warps in WARPS:
            if warps == 1 or warps * COLUMNS_PER_WARP <= dim:
                for unroll in UNROLLS[: 4 if kernel == "runs_kernel" else 5]:
                    yield counted.model_copy(update={"num_warps": warps, "UNROLL": unroll})


PROFILES = {
    "rehearsal": Profile(dims=(8,), tokens=(3,), experts=16, heads=1, topk=2, dim_key=8),
    "gpu": Profile(dims=(256, 1024), tokens=(8192, 1, 64, 1024), experts=1024**2),
}
