"""A table on its way out: a data frame with a title and notes, rendered without dates or chance."""

import io
import json
from pathlib import Path
from textwrap import fill
from typing import Any

import pandas as pd
from pydantic import ConfigDict, Field, SkipValidation
from tabulate import tabulate

from suites.output import WIDTH, fitted
from suites.records.record import Model
from suites.records.store import write_text


class Sheet(Model):
    """What `python -m suites tables` writes as Markdown, CSV and LaTeX.

    `frame` holds finished numbers for the CSV; `formats` says how the others show a column, `brief`
    which columns README.md shows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    title: str
    name: str = Field(default="", description="told apart by it where a suite has several tables")
    frame: SkipValidation[pd.DataFrame]
    says: str = Field(description="one sentence: what the rows show")
    formats: dict[str, str] = {}
    notes: list[str] = []
    brief: list[str] = []
    terminal: list[str] = Field(default=[], description="what a terminal shows, if not `brief`")
    measured: list[str] = Field(
        default=[], description="columns of times or memory, which no repetition gives again"
    )

    def markdown(self) -> str:
        """The whole table with its title and notes."""
        notes = "".join(f"\n- {note}" for note in self.notes)
        body = self.body(list(self.frame.columns))
        return f"# {self.title}\n\n{body}\n\n{self.says}\n" + (f"{notes}\n" if notes else "")

    def printed(self, wide: bool) -> str:
        """For a terminal: the columns that matter, within its width; with `wide`, the whole table."""
        if wide:
            return self.markdown()
        chosen = self.terminal or self.brief or list(self.frame.columns)
        columns = [column for column in chosen if column in self.frame]  # some need several seeds
        table, left_out = fitted(columns, self.shown()[columns].to_numpy().tolist())
        more = [c for c in self.frame.columns if c not in columns] + left_out
        notes = [
            *self.notes,
            *([f"--wide and the files show too: {', '.join(more)}"] if more else []),
        ]
        listed = "".join(f"- {note}\n" for note in notes)
        return f"# {self.title}\n\n{table}\n\n{fill(self.says, WIDTH)}\n\n{listed}"

    def data(self) -> dict[str, Any]:
        """The whole table for --json, with full numbers; what is no number in a column of numbers is null."""
        rows = json.loads(self.frame.to_json(orient="records"))
        return {"title": self.title, "says": self.says, "notes": self.notes, "rows": rows}

    def body(self, columns: list[str]) -> str:
        """Markdown of some columns; README.md shows those of `brief`."""
        return self.drawn("pipe", columns)

    def latex(self) -> str:
        """A `tabular` with the rules of booktabs; sentence and notes precede it as comments."""
        notes = "".join(f"% {line}\n" for line in [self.title, self.says, *self.notes])
        return f"{notes}{self.drawn('latex_booktabs', list(self.frame.columns))}\n"

    def drawn(self, form: str, columns: list[str]) -> str:
        rows = self.shown()[columns].to_numpy().tolist()
        return tabulate(rows, headers=columns, tablefmt=form, disable_numparse=True)

    def shown(self) -> pd.DataFrame:
        """Every value as text."""
        shown = self.frame.copy().astype(object)
        for column, form in self.formats.items():
            shown[column] = [
                "–" if value is None or value != value else format(value, form)
                for value in self.frame[column]
            ]
        return shown

    def write(self, folder: Path, latex: bool = False) -> None:
        """The whole table as NAME.md, NAME.csv and, for a paper, NAME.tex; "table" without a name."""
        stem = folder / (self.name or "table")
        write_text(stem.with_suffix(".md"), self.markdown())
        write_text(stem.with_suffix(".csv"), self.csv())
        if latex:
            write_text(stem.with_suffix(".tex"), self.latex())

    def repeatable(self) -> str:
        """What a repetition on such a machine gives again, to the bit."""
        columns = [column for column in self.frame.columns if column not in self.measured]
        return self.model_copy(update={"frame": self.frame[columns]}).csv()

    def csv(self) -> str:
        buffer = io.StringIO()
        self.frame.to_csv(buffer, index=False, lineterminator="\n", float_format="%.10g")
        return buffer.getvalue()
