"""The registry: a layer is one file in `baselines/` (or `peer/`) and one line here."""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from baselines import (
    PKM,
    DenseFFW,
    ExpertChoiceMoE,
    FineGrainedMoE,
    MemoryPlus,
    SparselyGatedLinear,
    TopKMoE,
    UltraMemV2,
)
from peer import PEER
from suites.errors import UserError


class FeedForward(Protocol):
    """What every layer offers beside `forward`: (..., dim) → (..., dim)."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def tables(self) -> list[nn.Parameter]:
        """Parameters read sparsely, trained at the table learning rate."""

    def parameter_parts(self) -> dict[str, int]:
        """Parameters by part: the same parts in the same order as all closed forms below."""

    def active_parameter_parts(self) -> dict[str, int]:
        """Parameters that one token meets, by part."""

    def active_parameters(self) -> int:
        """Their sum."""

    def selected(self, x: Tensor) -> Tensor | None:
        """Ids of what tokens (..., dim) select, None where a call reads every parameter."""

    def flops(self, tokens: int) -> dict[str, int]:
        """Forward FLOPs by part for one call with `tokens`, a multiply-add counted as 2.

        Comparisons, elementwise functions, norms, lookups and additions of rows are left out.
        """

    def backward_flops(self, tokens: int) -> dict[str, int]:
        """FLOPs by part of the gradients of parameters and tokens."""

    def bytes_moved(self, tokens: int, ids: Tensor | None = None) -> dict[str, int]:
        """Bytes by part that a forward call cannot avoid at the parameters' dtype.

        Each part reads its operands once and writes its results once, a row or an expert once per call
        however many tokens select it. `ids` are those of `selected`; without them routing is uniform.
        """

    def activation_bytes(self, tokens: int) -> dict[str, int]:
        """Bytes by part that backward needs beside parameters and what is elementwise in them."""


def output_and_loss(layer: Any, x: Tensor) -> tuple[Tensor, Tensor | float]:
    """A call in training: the output, and the loss that the layer asks for beside the model's own.

    A layer that asks for one says `asks_loss = True` and returns both from `layer(x, with_loss=True)`.
    """
    return layer(x, with_loss=True) if getattr(layer, "asks_loss", False) else (layer(x), 0.0)


LAYERS: dict[str, Callable[..., Any]] = {
    "dense": DenseFFW,
    "dense_glu": partial(DenseFFW, glu=True),
    "expert_choice": ExpertChoiceMoE,
    "topk_moe": TopKMoE,
    "pkm": PKM,
    "peer": PEER,
    "fine_grained_moe": FineGrainedMoE,
    "sparsely_gated_linear": SparselyGatedLinear,
    "memory_plus": MemoryPlus,
    "ultramem_v2": UltraMemV2,
}


class Freedom(NamedTuple):
    """The numbers of a layer that a matched comparison may vary; the others keep the paper's values."""

    values: dict[str, Callable[[int], Sequence[int]]]  # option → its values given dim, rising
    allowed: Callable[[dict[str, Any]], bool] = lambda options: True


DOUBLINGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def hidden(dim: int) -> Sequence[int]:
    return range(1, 8 * dim + 1)


def hidden_of_grouped_gemm(dim: int) -> Sequence[int]:
    """Rows of whole 16 bytes in every dtype: others run product by product, which no one compares with."""
    return range(TopKMoE.WIDTH_STEP, 8 * dim + 1, TopKMoE.WIDTH_STEP)


def doublings(dim: int) -> Sequence[int]:
    return DOUBLINGS


def squares(dim: int) -> Sequence[int]:
    return [S * S for S in range(1, 1024 + 1)]


def hidden_in_steps(dim: int) -> Sequence[int]:
    """Few enough to be tried with every value of a second option."""
    step = max(1, dim // 32)
    return range(step, 8 * dim + 1, step)


def squares_of_doublings(dim: int) -> Sequence[int]:
    """For a layer whose width is varied too, which takes up what lies between."""
    return [S * S for S in DOUBLINGS]


def in_the_papers_range(options: dict[str, Any]) -> bool:
    """Up to h·k = 512 (figure 3b); N up to 1024² (figure 3a) is in `squares`."""
    rows = math.isqrt(options.get("experts") or options["memories"])
    return options["topk"] <= rows and options["heads"] * options["topk"] <= 512


def sparse(options: dict[str, Any]) -> bool:
    """A token meets at most a quarter of the experts, as in Mixtral (arXiv 2401.04088)."""
    return options["experts"] >= 4 * options["topk"]


VARIES: dict[str, Freedom] = {
    "dense": Freedom({"hidden": hidden}),
    "dense_glu": Freedom({"hidden": hidden}),
    "expert_choice": Freedom({"hidden": hidden}),
    "topk_moe": Freedom({"hidden": hidden_of_grouped_gemm, "experts": doublings}, sparse),
    "fine_grained_moe": Freedom({"hidden": hidden}),
    "pkm": Freedom(
        {"heads": doublings, "topk": doublings, "memories": squares}, in_the_papers_range
    ),
    "peer": Freedom(
        {"heads": doublings, "topk": doublings, "experts": squares}, in_the_papers_range
    ),
    "ultramem_v2": Freedom(
        {"hidden": hidden_in_steps, "topk": doublings, "experts": squares_of_doublings},
        lambda options: options["topk"] ** 2 <= options["experts"],
    ),
    "memory_plus": Freedom(
        {"heads": doublings, "topk": doublings, "memories": squares}, in_the_papers_range
    ),
    "sparsely_gated_linear": Freedom(
        {"heads": doublings, "topk": doublings, "experts": squares}, in_the_papers_range
    ),
}


def build(layer: str, dim: int, options: dict[str, Any], lent: Sequence[nn.Parameter] = ()) -> Any:
    """The registered `layer` of width `dim`; raises UserError for an unknown layer or option.

    `lent` is what the same layer at an earlier site lends, see `lends`.
    """
    resolve_options(layer, options)
    return LAYERS[layer](dim, *lent, **options)


def lends(layer: FeedForward) -> Sequence[nn.Parameter]:
    """The parameters that `layer` lends to further sites of a model; most layers lend none."""
    return getattr(layer, "lends", tuple)()


def check_registered(layer: str) -> None:
    if layer not in LAYERS:
        raise UserError(f"unknown layer {layer!r}; registered are {', '.join(LAYERS)}")


def resolve_options(layer: str, options: dict[str, Any]) -> dict[str, Any]:
    """`options` with the layer's defaults filled in, so that a record states every choice."""
    check_registered(layer)
    parameters = inspect.signature(LAYERS[layer]).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    if unknown := set(options) - set(defaults):
        raise UserError(
            f"{layer} has no option {', '.join(sorted(unknown))}; it has {', '.join(defaults)}"
        )
    return defaults | options
