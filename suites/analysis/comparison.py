"""Which fields of its cases an experiment varies, as its module states it: nothing is computed here."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """What an experiment varies, under the names its tables use.

    `varied` maps a column to a dotted field of the case, or to several whose product it is. The
    reference of a row has the first value in the records of column `against`, and the row's own values
    in the columns `within`.
    """

    varied: Mapping[str, str | tuple[str, ...]]
    against: str
    within: tuple[str, ...] = ()
