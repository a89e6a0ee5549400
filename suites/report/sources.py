"""The records a report is made of, and where its pages show each: a number's address."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import JsonValue

from suites.records.record import ResultFile
from suites.records.store import Store
from suites.registry import SUITES, Suite
from suites.tables.arms import form_of

Row = dict[Hashable, Any]
SAID = {"none": None, "yes": True, "no": False}  # as tables say a field of a case


@dataclass(frozen=True)
class Source:
    """A result file and the page of the report that shows it."""

    path: Path  # of the record, below the results folder
    file: ResultFile

    @property
    def page(self) -> str:
        return self.path.with_suffix(".html").as_posix()

    def of(self, words: Iterable[str]) -> str:
        """Address of those cells whose case has all `words`, each `field=value`, or `field=one|other`."""
        return f"{self.page}#{quote(' '.join(words), safe='=.|')}"

    def cell(self, digest: str) -> str:
        return f"{self.page}#{anchor(digest)}"


class Sources:
    """All records and publications of a store, by suite and profile."""

    def __init__(self, store: Store) -> None:
        self.every = [
            Source(path.relative_to(store.root), file)
            for kind in ("records", "published")
            for path, file in store.files(kind)
        ]

    def __iter__(self) -> Iterator[Source]:
        return iter(self.every)

    @property
    def measured(self) -> list[Source]:
        return [one for one in self.every if one.file.source == "measured"]

    def of(self, suite: str, profile: str) -> list[Source]:
        return [one for one in self.every if (one.file.suite, one.file.profile) == (suite, profile)]

    def at(self, suite: str, profile: str, commit: str) -> Source | None:
        """The last one whose commit begins with `commit`; where none does, the last of the suite."""
        own = self.of(suite, profile)
        same = [
            one for one in own if one.file.code and (one.file.code.commit or "").startswith(commit)
        ]
        found = same or own
        return found[-1] if found else None

    def showing(self, file: ResultFile) -> Source:
        return next(one for one in self.every if one.file is file)

    def linker(self, suite: str, profile: str) -> Callable[[Row], str | None]:
        """For rows of a table of `suite`: the record, narrowed to the cells that a row is made of."""
        varied: dict[str, str] = {}
        if SUITES.get(suite, Suite("")).sheets == "arms.sheets":
            paths = form_of(suite).comparison.varied.items()
            varied = {column: path for column, path in paths if isinstance(path, str)}

        def link(row: Row) -> str | None:
            commit = str(row.get("commit") or row.get("run") or "").split("+")[0].split(" ")[0]
            source = self.at(suite, profile, commit)
            if source is None:
                return None
            words = [
                word(path, SAID.get(row[column], row[column]))
                for column, path in varied.items()
                if column in row
            ]
            label = str(row.get("method") or row.get("layer") or "").split()
            if label and "layer" not in varied.values():
                words += [word("layer", label[0]), *label[1:]]
            if "budget" not in varied and isinstance(row.get("budget"), float):
                words.append(word("budget_flops", row["budget"]))
            return source.of(words)

        return link

    def by_suite(self, profile: str) -> dict[str, list[ResultFile]]:
        found: dict[str, list[ResultFile]] = {}
        for one in self.measured:
            if one.file.profile == profile:
                found.setdefault(one.file.suite, []).append(one.file)
        return found


def anchor(digest: str) -> str:
    return f"c-{digest[:12]}"


def word(name: str, value: Any) -> str:
    """How a field of a case is written in addresses and on the pages of records, without a space."""
    if isinstance(value, float):
        value = f"{value:.6g}"
    return f"{name}={value}".replace(" ", "")


def machine(file: ResultFile) -> str:
    """For a reader."""
    where = file.environment
    if where is None:
        return "the paper's"
    return where.gpu.name if where.gpu else f"{where.cpu}, {where.cores} cores"


def shown(value: JsonValue) -> str:
    """A number as a reader takes it in, other values as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:,.5g}"
