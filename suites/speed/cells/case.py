"""A timed cell as a frozen value: everything that decides its time. Imports no torch."""

from typing import Literal

from pydantic import Field, JsonValue, PositiveInt

from suites.language_model.case import Backbone
from suites.records.budget import Kind
from suites.records.names import CONTROLS, EQUAL, row_words, timed_name
from suites.records.record import Model

Phase = Literal["inference", "forward", "backward", "training_step"]
Routing = Literal["uniform", "zipf", "same", "recorded"]


class Cell(Model):
    """One row of a speed table.

    Phases: "inference" is a forward in evaluation mode without gradients; "forward" keeps what
    backward needs; "backward" is timed alone, its graph rebuilt outside the timed region;
    "training_step" is forward, backward and AdamW.
    """

    suite: str
    layer: str = Field(description="a registered layer, an operation, a rival or a control")
    options: dict[str, JsonValue] = Field(description="what the layer is built with")
    compiled: bool = Field(default=False, description="the whole call under torch.compile")
    tokens: PositiveInt = Field(description="T, in one call")
    dim: PositiveInt = Field(description="D, model width")
    experts: PositiveInt = Field(description="N of the sparse layers in this comparison")
    active_experts: PositiveInt = Field(description="h·k of the sparse layers in this comparison")
    dtype: Literal["float32", "bfloat16"]
    routing: Routing
    ids_sha256: str | None = Field(default=None, description="of the file of recorded routing")
    phase: Phase
    matched: Kind | None = Field(description="the quantity made equal across the comparison")
    device: Literal["cpu", "cuda"]
    threads: PositiveInt = Field(description="of the CPU")
    values: Literal["normal"] = Field(default="normal", description="N(0, 1) tokens, seeded")
    seed: int = 0
    repeat: int = Field(default=0, description="1 is the second measurement of a control pair")
    backbone: Backbone | None = Field(default=None, description="of the decoder, in model_speed")
    vocabulary: PositiveInt | None = None

    @property
    def is_control(self) -> bool:
        return self.layer in CONTROLS

    @property
    def impl(self) -> str | None:
        """The named implementation of layers and operations that have several."""
        impl = self.options.get("impl")
        return impl if isinstance(impl, str) else None

    def size(self, option: str, default: int | None = None) -> int:
        """A whole number among the options."""
        value = self.options.get(option, default)
        if not isinstance(value, int):
            raise ValueError(f"{self.name} states no {option}")
        return value

    @property
    def group(self) -> str:
        """Cells of one group are rows of one comparison."""
        if self.is_control:
            return f"{self.suite} controls"
        matched = f" {EQUAL[self.matched]}" if self.matched else ""
        return (
            f"{self.suite} {self.phase} T={self.tokens} D={self.dim} N={self.experts} "
            f"hk={self.active_experts} {self.dtype} {self.routing}{matched}"
        )

    @property
    def row(self) -> str:
        """The name of the cell within its group."""
        return "-".join(row_words(vars(self)) + ["again"] * bool(self.repeat))

    @property
    def name(self) -> str:
        """What `-k` selects by; unique within a profile."""
        return f"{self.suite}-{timed_name(vars(self))}{'-again' if self.repeat else ''}"
