"""A table as a page holds it: JSON that sorts by number, shows text and leads to records."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from suites.records.record import Model
from suites.report.sources import Row
from suites.tables.sheet import Sheet


class Line(Model):
    """A row: per column a text, or a number with its text; ours lead to `link`, the paper's to `paper`."""

    cells: list[str | tuple[float, str]]
    link: str | None = None
    paper: str | None = None


class Grid(Model):
    """One table of a page."""

    id: str
    title: str
    columns: list[str]
    rows: list[Line]
    says: str = ""
    notes: list[str] = []
    folded: bool = False


def of_sheet(
    name: str,
    sheet: Sheet,
    link: Callable[[Row], str | None],
    columns: Sequence[str] = (),
    paper: Callable[[Row], str | None] = lambda _: None,
) -> Grid:
    """`columns` of a sheet, all where none are named; `link` and `paper` find what a row rests on."""
    chosen = [c for c in columns if c in sheet.frame] or list(sheet.frame.columns)
    texts = sheet.shown()[chosen].to_dict("records")
    values = sheet.frame.to_dict("records")
    return Grid(
        id=name,
        title=sheet.title,
        columns=chosen,
        says=sheet.says,
        notes=sheet.notes,
        rows=[
            Line(
                cells=[cell(value[c], text[c]) for c in chosen],
                link=link(value),
                paper=paper(value),
            )
            for value, text in zip(values, texts, strict=True)
        ],
    )


def of_rows(
    name: str, title: str, rows: Iterable[Mapping[str, Any]], links: Iterable[str | None]
) -> Grid:
    """Of dictionaries with the same keys; a pair is a number with its text."""
    rows = list(rows)
    return Grid(
        id=name,
        title=title,
        columns=list(rows[0]) if rows else [],
        rows=[
            Line(cells=[c if isinstance(c, tuple) else str(c) for c in row.values()], link=link)
            for row, link in zip(rows, links, strict=True)
        ],
    )


def cell(value: Any, text: Any) -> str | tuple[float, str]:
    """A value that is no number, or none, is its text."""
    number = pd.api.types.is_number(value) and not pd.api.types.is_bool(value)
    return (float(value), str(text)) if number and value == value else str(text)
