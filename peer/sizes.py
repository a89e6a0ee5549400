"""What may be a size: whole numbers from 1, and squares where two sets of sub-keys span the experts."""

import math
from numbers import Integral

LARGEST = 2**63 - 1  # of a torch dimension


def check_sizes(**sizes: object) -> None:
    """Raises TypeError or ValueError that names the first of `sizes` which is none."""
    for name, value in sizes.items():
        if not isinstance(value, Integral) or isinstance(value, bool):
            kind = type(value).__name__
            raise TypeError(f"{name} must be a whole number of at least 1; got {value!r} ({kind})")
        if not 1 <= int(value) <= LARGEST:
            raise ValueError(f"{name} must be at least 1 and fit 64 bits; got {value}")


def check_square(**sizes: object) -> None:
    """`check_sizes`, and ValueError for one that is no perfect square."""
    check_sizes(**sizes)
    for name, value in sizes.items():
        root = math.isqrt(int(value))  # type: ignore[call-overload]
        if root * root != value:
            near = f"{root**2} and {(root + 1) ** 2}"
            raise ValueError(f"{name} must be a perfect square, got {value}; nearest are {near}")
