"""The contract of a comparison: which quantity is matched, how closely, against which row."""

from typing import Any, Literal, get_args

from pydantic import Field, NonNegativeFloat, field_validator

from suites.errors import UserError
from suites.records.record import Model

Kind = Literal["training_flops", "forward_flops", "active_parameters", "parameters", "bytes_moved"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def check_kind(kind: Any) -> Kind:
    """Raises UserError for an unknown kind."""
    if kind not in KINDS:
        raise UserError(f"unknown budget kind {kind!r}; there are {', '.join(KINDS)}")
    return kind


class Budget(Model):
    """Rows of a table are comparable when each one's `kind` lies within `tolerance` of `reference`."""

    kind: Kind
    reference: float
    row: str = Field(default="the budget", description="whose `kind` the reference is")
    tolerance: NonNegativeFloat = 0.02

    @field_validator("kind", mode="before")
    @classmethod
    def kind_is_known(cls, kind: Any) -> Kind:
        return check_kind(kind)

    def mismatch(self, value: float) -> float:
        """Relative difference of `value` from the reference; +0.01 is one percent too much."""
        if not self.reference > 0:
            raise UserError(f"a budget needs a positive reference; got {self.reference}")
        return value / self.reference - 1

    def describe(self) -> str:
        """As tables print it."""
        return f"{self.tolerance:.2%} of the {self.kind} of {self.row}, {self.reference:.4g}"

    def check(self, rows: dict[str, float]) -> dict[str, float]:
        """The mismatch of every row; raises UserError naming all rows outside the tolerance."""
        mismatches = {name: self.mismatch(value) for name, value in rows.items()}
        outside = {name: gap for name, gap in mismatches.items() if not abs(gap) <= self.tolerance}
        if outside:
            listed = ", ".join(f"{name} {gap:+.2%}" for name, gap in outside.items())
            raise UserError(
                f"not comparable: {self.kind} must lie within {self.tolerance:.2%} of "
                f"{self.row}, {self.reference:.4g}; outside: {listed}. "
                "No table is printed for rows whose budgets do not match."
            )
        return mismatches
