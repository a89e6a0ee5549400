"""A training run as a frozen value: everything that decides its result. Imports no torch."""

from typing import Literal

from pydantic import Field, JsonValue, PositiveFloat, PositiveInt

from suites.records.record import Model
from suites.text.case import Evaluation, Text


class Backbone(Model):
    """The decoder around the layer under test."""

    blocks: PositiveInt
    dim: PositiveInt
    attention_heads: PositiveInt
    context: PositiveInt = Field(description="tokens per sequence")


class Optimization(Model):
    """AdamW on a cosine that ends with the run; tables have a learning rate of their own.

    AdamW moves every entry by about its rate, so one rate would move a table of small entries (PEER's
    `down`) ten times as far as one of large entries (`up`); hence the unit of `table_rate`.
    """

    learning_rate: PositiveFloat
    table_rate: PositiveFloat = Field(
        default=1.0,
        description="learning rate of tables per root mean square of their entries at initialisation",
    )
    # Left out where it says nothing, so that cases without it keep their digests.
    table_rates: dict[str, PositiveFloat] = Field(
        default={},
        exclude_if=lambda rates: not rates,
        description="of single tables by their parameter's name (down, up, gate, values), in the "
        "unit of table_rate, which the others keep",
    )
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = Field(default=0.1, description="of backbone matrices; tables have none")
    gradient_clip: PositiveFloat = 1.0
    warmup_share: float = Field(default=0.02, description="of the steps")
    final_share: float = Field(default=0.1, description="of the learning rate, at the last step")


class TrainingCase(Model):
    """One run. Tokens are not stated: they follow from the budget and the model's FLOPs per token."""

    layer: str
    options: dict[str, JsonValue] = Field(description="of the layer, defaults included")
    sites: tuple[int, ...] = Field(
        description="blocks whose feed-forward is `layer`; the rest is dense"
    )
    backbone: Backbone
    optimization: Optimization
    budget_flops: PositiveFloat = Field(description="training FLOPs, forward and backward")
    batch_sequences: PositiveInt
    evaluation_tokens: PositiveInt
    text: Text
    seed: int
    device: Literal["cpu", "cuda"]
    threads: PositiveInt = Field(description="of the CPU; part of the case since sums depend on it")
    # Left out of a case where they say nothing, so that cases without them keep their digests.
    compiled: bool = Field(
        default=False, exclude_if=lambda on: not on, description="by torch.compile"
    )
    micro_sequences: PositiveInt | None = Field(
        default=None,
        exclude_if=lambda sequences: sequences is None,
        description="of a batch in one call, their gradients summed; None: all of it",
    )
    ranks: PositiveInt = Field(
        default=1,
        exclude_if=lambda ranks: ranks == 1,
        description="processes that share every call's sequences; batch norm is of all, expert choice "
        "and a layer's own losses of one process's part",
    )
    sharding: Literal["columns", "rows"] | None = Field(
        default=None,
        exclude_if=lambda sharding: sharding is None,
        description="how tables are spread over the ranks",
    )
    evaluations: tuple[Evaluation, ...] = Field(
        default=(),
        exclude_if=lambda sets: not sets,
        description="further sets, each up to `evaluation_tokens`",
    )
