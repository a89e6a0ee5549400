"""A page in views: each an address, a title, what it says in a sentence, then charts and tables."""

from collections.abc import Sequence
from typing import NamedTuple

from suites.report.grid import Grid


class Chart(NamedTuple):
    title: str
    caption: str
    svg: str


class Note(NamedTuple):
    """A state that a reader has to know of."""

    text: str


class View(NamedTuple):
    id: str
    short: str  # in the navigation
    title: str
    lead: str
    blocks: Sequence[Chart | Grid | Note]
