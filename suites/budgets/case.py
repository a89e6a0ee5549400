"""What the suite counts, as frozen values."""

from typing import Literal

from pydantic import Field, JsonValue, PositiveInt

from suites.language_model.case import Backbone
from suites.records.budget import Kind
from suites.records.record import Model


class LayerCase(Model):
    """One layer in one call, counted three ways."""

    table: Literal["layer"] = "layer"
    layer: str
    options: dict[str, JsonValue]
    dim: PositiveInt
    tokens: PositiveInt
    sweep: Literal["experts"] | None = Field(
        default=None, description="the figure's axis if not dim"
    )


class DecoderCase(Model):
    """A decoder with `layer` in the middle block, one sequence, counted three ways."""

    table: Literal["decoder"] = "decoder"
    layer: str
    options: dict[str, JsonValue]
    backbone: Backbone
    vocabulary: PositiveInt


class MatchCase(Model):
    """The configuration of `layer` nearest to a budget of the dense layer (dim, 4·dim)."""

    table: Literal["match"] = "match"
    layer: str
    dim: PositiveInt
    budget: Kind
    tolerance: float
    tokens: PositiveInt


class CrossoverCase(Model):
    """Widths at which PEER with `experts` stops costing more than the dense layer."""

    table: Literal["crossover"] = "crossover"
    experts: PositiveInt
    tokens: PositiveInt


class ChinchillaCase(Model):
    """A row of Chinchilla's table A4."""

    table: Literal["chinchilla"] = "chinchilla"
    model: str


Case = LayerCase | DecoderCase | MatchCase | CrossoverCase | ChinchillaCase
