"""Where documents come from: the running Python's standard library, local files, or the hub."""

import hashlib
import platform
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from suites.errors import UserError

BUILDERS = {
    ".parquet": "parquet",
    ".jsonl": "json",
    ".json": "json",
    ".txt": "text",
    ".raw": "text",
}
# Not prose about Python's own library: tests, caches, installed packages, bundled wheels.
LEFT_OUT = {
    "test",
    "tests",
    "idle_test",
    "site-packages",
    "dist-packages",
    "__pycache__",
    "ensurepip",
}
HUB = re.compile(r"hf://datasets/[\w.-]+/[\w.-]+@[0-9a-f]{40}/\S+")


class Source(Protocol):
    """A list of documents with a name for tables and an identity that changes with its content."""

    name: str

    def identity(self) -> str: ...

    def documents(self) -> Iterator[str]: ...


class StandardLibrary:
    """The .py files of the Python that runs: real text, on every machine, without a network."""

    def __init__(self) -> None:
        self.name = f"stdlib (Python {platform.python_version()})"
        root = Path(sysconfig.get_paths()["stdlib"])
        inside = (path.relative_to(root) for path in root.rglob("*.py"))
        self.files = [root / path for path in sorted(inside) if not LEFT_OUT & set(path.parts)]
        if not self.files:
            raise UserError(f"no .py files under {root}; state a corpus with --data FILE")

    def identity(self) -> str:
        return digest_files(self.files)

    def documents(self) -> Iterator[str]:
        for path in self.files:
            yield path.read_text(encoding="utf-8", errors="replace")


class Files:
    """Local files, or hub files as hf://datasets/OWNER/NAME@REVISION/FILE, read through `datasets`."""

    def __init__(self, locations: tuple[str, ...]) -> None:
        self.locations = locations
        builder(locations)  # refuses a mixture before anything is read
        self.local = [Path(place) for place in locations if not place.startswith("hf://")]
        for path in self.local:
            if not path.is_file():
                raise UserError(f"no such file: {path}")
        self.name = short_names(locations)

    def identity(self) -> str:
        """Contents of local files; a hub file is fixed by its pinned revision."""
        remote = sorted(set(self.locations) - {str(path) for path in self.local})
        return "\n".join([digest_files(self.local), *remote])

    def documents(self) -> Iterator[str]:
        for row in rows(self.locations):
            if "text" not in row:
                raise UserError(f"{self.name} has no column 'text'; it has {', '.join(row)}")
            if not isinstance(row["text"], str | None):
                raise UserError(f"column 'text' of {self.name} holds no text")
            if row["text"]:
                yield row["text"]


def rows(locations: tuple[str, ...], sample_by: str = "paragraph") -> Iterator[dict[str, Any]]:
    """Rows of local or hub files as `datasets` streams them.

    A plain text file has a row per paragraph, parted by blank lines, or one row, its `document`.
    """
    import datasets

    datasets.disable_progress_bars()
    kind = builder(locations)
    parted = {"sample_by": sample_by} if kind == "text" else {}
    try:
        yield from datasets.load_dataset(
            kind, data_files=list(locations), split="train", streaming=True, **parted
        )
    except Exception as error:  # datasets raises many kinds: parse, network, arrow
        raise UserError(f"cannot read {short_names(locations)} as {kind}: {error}") from error


def short_names(locations: tuple[str, ...]) -> str:
    """Hub files by repository and revision, local ones without their folder."""
    return ", ".join(
        place.removeprefix("hf://datasets/") if place.startswith("hf://") else Path(place).name
        for place in locations
    )


def source(locations: tuple[str, ...]) -> Source:
    """The embedded default without locations, else the files."""
    return Files(locations) if locations else StandardLibrary()


def builder(locations: tuple[str, ...]) -> str:
    """The `datasets` builder that all locations share by their suffix."""
    kinds = set()
    for place in locations:
        if place.startswith("hf://") and not HUB.fullmatch(place):
            raise UserError(
                f"a hub file is named hf://datasets/OWNER/NAME@REVISION/FILE with the 40 hex digits of "
                f"a commit, so that it cannot change; got {place}"
            )
        suffix = Path(place.removesuffix(".gz").removesuffix(".zst")).suffix
        if suffix not in BUILDERS:
            raise UserError(f"{place}: files must end in one of {', '.join(BUILDERS)}")
        kinds.add(BUILDERS[suffix])
    if len(kinds) > 1:
        raise UserError(f"files of one corpus must be of one kind; got {', '.join(sorted(kinds))}")
    return kinds.pop()


def digest_files(paths: list[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
