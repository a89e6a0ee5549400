"""The records a report is made of, and where its pages show each: a number's address."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import JsonValue

from suites.compare.sides import committed
from suites.records.cells import Cell, cells
from suites.records.commits import Repository
from suites.records.record import ResultFile
from suites.records.store import Store
from suites.registry import SUITES, Suite
from suites.tables.arms import form_of

Row = dict[Hashable, Any]
BESIDE_TABLE2 = ("number_of_experts", "query_norm", "query_norm_isoflop")
SAID = {"none": None, "yes": True, "no": False}  # as tables say a field of a case


@dataclass(frozen=True)
class Source:
    """A result file and the page of the report that shows it."""

    path: Path  # of the record, below the results folder
    file: ResultFile
    stands_for: str | None = None  # the commit, if git knows one
    removed_by: str | None = None  # the commit that took the record out of the tree

    @cached_property
    def cells(self) -> dict[str, Cell]:
        return cells(self.file)

    @property
    def page(self) -> str:
        return self.path.with_suffix(".html").as_posix()

    def of(self, words: Iterable[str]) -> str:
        """Address of those cells whose case has all `words`, each `field=value`, or `field=one|other`."""
        return f"{self.page}#{quote(' '.join(words), safe='=.|')}"

    def cell(self, digest: str) -> str:
        return f"{self.page}#{anchor(digest)}"


class Sources:
    """All records and publications of a store, and the records that its history holds besides."""

    def __init__(self, store: Store, repository: Repository) -> None:
        self.known = [
            Source(
                store.published_path(one.file).relative_to(store.root),
                one.file,
                one.stands_for,
                one.removed_by,
            )
            for one in committed(store, repository)
        ]
        publications = [
            Source(path.relative_to(store.root), file) for path, file in store.files("published")
        ]
        # Commits of HEAD's history, each with how many came after it.
        self.age = {commit: steps for steps, commit in enumerate(repository.ancestors("HEAD"))}
        standing = [one for one in self.known if one.removed_by is None]
        standing.sort(key=lambda one: -self.age.get(str(one.stands_for), len(self.age)))
        self.every = standing + publications
        self.superseded = [one for one in self.known if one.removed_by is not None]

    def __iter__(self) -> Iterator[Source]:
        """Each has a page."""
        return iter(self.every + self.superseded)

    @property
    def gpus(self) -> list[str]:
        """That any record is of."""
        places = [one.file.environment for one in self.measured]
        return sorted({place.gpu.name for place in places if place and place.gpu})

    @property
    def measured(self) -> list[Source]:
        return [one for one in self.every if one.file.source == "measured"]

    def of(self, suite: str, profile: str) -> list[Source]:
        """From the oldest commit to the newest; one that git does not know comes first."""
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

    def publication(self, suite: str) -> str | None:
        """Page of the paper's table that holds what stands beside numbers of `suite`."""
        name = "table2" if suite in BESIDE_TABLE2 else "table1"
        found = [one.page for one in self.every if one.path.stem == name]
        return found[0] if found else None

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

    def scale_of(self, suite: str) -> str | None:
        """The profile at which `suite` has its record with the most training FLOPs in one run."""
        spent = {
            one.file.profile: max(float(r.case.get("budget_flops") or 0) for r in one.file.records)
            for one in sorted(self.measured, key=lambda one: one.file.profile)
            if one.file.suite == suite and one.file.records
        }
        return max(spent, key=lambda profile: spent[profile], default=None)

    def largest(self) -> dict[str, list[ResultFile]]:
        """The records of each suite at its largest scale."""
        suites = dict.fromkeys(one.file.suite for one in self.measured)
        return {
            suite: [one.file for one in self.of(suite, profile)]
            for suite in suites
            if (profile := self.scale_of(suite)) is not None
        }


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
