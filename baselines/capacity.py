"""Slots of an expert, in whole numbers: floating point rounds 1.1 · 100 / 10 up to 12."""

from fractions import Fraction


def slots_for(capacity_factor: float, choices: int, experts: int) -> int:
    """⌈capacity_factor · choices / experts⌉, the factor as it is written in decimal."""
    factor = Fraction(repr(float(capacity_factor)))
    return -(-factor.numerator * choices // (factor.denominator * experts))
