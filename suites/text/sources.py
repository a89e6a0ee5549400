"""Where documents come from: the running Python's standard library, local files, or the hub."""

import hashlib
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from suites.errors import UserError
from suites.records.places import place
from suites.text.files import Rows, check_readable, short_names

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


class Source(Protocol):
    """A list of documents with a name for tables and an identity that changes with its content."""

    name: str
    left_out: int  # rows without text, known when all documents were read

    def identity(self) -> str: ...

    def documents(self) -> Iterator[str]: ...


class StandardLibrary:
    """The .py files of the Python that runs: real text, on every machine, without a network."""

    left_out = 0

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
    """Column `text` of local files, or of hub files as hf://datasets/OWNER/NAME@REVISION/FILE."""

    def __init__(self, locations: tuple[str, ...]) -> None:
        self.rows = Rows(locations)  # refuses a mixture before anything is read
        for location in locations:
            if not location.startswith("hf://"):
                check_readable(location)
        self.name = short_names(locations)
        self.left_out = 0

    def identity(self) -> str:
        """Contents of local files; a hub file is fixed by its pinned revision."""
        return "\n".join(
            location if location.startswith("hf://") else digest_files([place(location)])
            for location in self.rows.locations
        )

    def documents(self) -> Iterator[str]:
        self.rows.left_out = 0
        for row in self.rows:
            if row["text"]:
                yield row["text"]
        self.left_out = self.rows.left_out


def source(locations: tuple[str, ...]) -> Source:
    """The embedded default without locations, else the files."""
    return Files(locations) if locations else StandardLibrary()


def digest_files(paths: list[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
