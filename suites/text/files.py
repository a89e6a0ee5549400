"""Rows of text in local and hub files. Of parquet and JSON only the columns that are used are read."""

import codecs
import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from suites.errors import UserError
from suites.records.places import place

KINDS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".txt": "text", ".raw": "text"}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
HUB = re.compile(r"hf://datasets/[\w.-]+/[\w.-]+@[0-9a-f]{40}/\S+")
AT_ONCE = 2**24  # characters of a text file
ROWS_AT_ONCE = 1024  # of a parquet file


class Unreadable(UserError):
    """A file that cannot be had, or is not of the kind that its name says."""


class Rows:
    """Rows of files in which all `columns` hold text: a dict of these columns each.

    A row without one of them, or with null in one, is left out and counted. A plain text file has one
    column, `text`, and a row per paragraph, parted by blank lines, or one row, its `document`.

    Iterating raises UserError for a column that no row has and for a value that is no text, and
    Unreadable for a file.
    """

    def __init__(
        self,
        locations: tuple[str, ...],
        columns: tuple[str, ...] = ("text",),
        sample_by: str = "paragraph",
    ) -> None:
        self.locations, self.columns, self.sample_by = locations, columns, sample_by
        self.kind = kind(locations)
        self.left_out = 0

    def __iter__(self) -> Iterator[dict[str, str]]:
        whole = 0
        names: dict[str, None] = {}  # of all columns seen, in their order
        for location in self.locations:
            for number, row in enumerate(self.read(location), 1):
                names |= dict.fromkeys(row)
                chosen = {column: row.get(column) for column in self.columns}
                for column, value in chosen.items():
                    if not isinstance(value, str | None):
                        raise UserError(
                            f"row {number} of {short_names((location,))} holds a "
                            f"{type(value).__name__} in column {column!r} and not text"
                        )
                if None in chosen.values():
                    self.left_out += 1
                else:
                    whole += 1
                    # Half of a surrogate pair, which JSON can state, is no character.
                    yield {c: str(v).encode("utf-8", "replace").decode() for c, v in chosen.items()}
        if self.left_out and not whole:
            missing = [repr(column) for column in self.columns if column not in names]
            raise UserError(
                f"{short_names(self.locations)} has no column {', '.join(missing)}; it has "
                f"{', '.join(names)}"
                if missing
                else f"no row of {short_names(self.locations)} holds text in "
                f"{' and '.join(self.columns)}"
            )

    def read(self, location: str) -> Iterator[dict[str, Any]]:
        """All rows of one file, null where a row has none of the columns."""
        try:
            with opened(location) as file:
                if self.kind == "parquet":
                    yield from parquet_rows(file, self.columns)
                elif self.kind == "json":
                    yield from json_rows(file)
                else:
                    yield from text_rows(file, self.sample_by)
        except Exception as error:  # parsers, decompressors and the network raise many kinds
            name = short_names((location,))
            raise Unreadable(f"cannot read {name} as {self.kind}: {error}") from error


def parquet_rows(file: IO[bytes], columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet

    parquet = pyarrow.parquet.ParquetFile(file)
    names = parquet.schema_arrow.names
    others = dict.fromkeys(names)
    for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=[c for c in columns if c in names]):
        yield from (others | row for row in batch.to_pylist())


def json_rows(file: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Objects, one a line, or those of one array."""
    lines = enumerate(file, 1)
    for number, line in lines:
        content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if content.startswith(b"["):
            array = parsed(content + b"".join(rest for _, rest in lines), f"from line {number} on")
            yield from (an_object(row, f"row {i}") for i, row in enumerate(array, 1))
        elif content.strip():
            yield an_object(parsed(content, f"line {number}"), f"line {number}")


def parsed(content: bytes, where: str) -> Any:
    try:
        # Python refuses an int of more than 4300 digits, and no number is used.
        return json.loads(content.decode(), parse_int=float)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def an_object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"{where} holds a {type(row).__name__} and not an object")
    return row


def text_rows(file: IO[bytes], sample_by: str) -> Iterator[dict[str, Any]]:
    with io.TextIOWrapper(file, encoding="utf-8-sig") as text:
        if sample_by == "document":
            yield {"text": text.read()}
            return
        rest = ""
        while more := text.read(AT_ONCE):
            *paragraphs, rest = (rest + more).split("\n\n")
            yield from ({"text": paragraph} for paragraph in paragraphs if paragraph)
        if rest:
            yield {"text": rest}


@contextmanager
def opened(location: str) -> Iterator[IO[bytes]]:
    """The content of a file, decompressed."""
    with opened_as_is(location) as file:
        if (suffix := Path(location).suffix) in COMPRESSIONS:
            import pyarrow

            raw = pyarrow.PythonFile(file, "r")
            with pyarrow.CompressedInputStream(raw, COMPRESSIONS[suffix]) as content:
                yield io.BufferedReader(content)
        else:
            yield file


def opened_as_is(location: str) -> IO[bytes]:
    if location.startswith("hf://"):
        from huggingface_hub import HfFileSystem

        return HfFileSystem().open(location, "rb")
    return place(location).open("rb")


def check_readable(location: str) -> None:
    """Raises UserError for a local file that is missing or may not be read."""
    path = place(location)
    if not path.exists():
        raise UserError(f"no such file: {location}")
    if not path.is_file():
        raise UserError(f"{location} is not a file; name the files of a folder one by one")
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"cannot read {location}: {error.strerror}") from error


def kind(locations: tuple[str, ...]) -> str:
    """What all locations are by their suffix: parquet, json or text."""
    kinds = set()
    for location in locations:
        if location.startswith("hf://") and not HUB.fullmatch(location):
            raise UserError(
                f"a hub file is named hf://datasets/OWNER/NAME@REVISION/FILE with the 40 hex digits of "
                f"a commit, so that it cannot change; got {location}"
            )
        suffix = Path(location.removesuffix(".gz").removesuffix(".zst")).suffix.lower()
        if suffix not in KINDS:
            raise UserError(f"{location}: files must end in one of {', '.join(KINDS)}")
        kinds.add(KINDS[suffix])
    if len(kinds) > 1:
        raise UserError(f"files of one corpus must be of one kind; got {', '.join(sorted(kinds))}")
    return kinds.pop()


def short_names(locations: tuple[str, ...]) -> str:
    """Hub files by repository and revision, local ones without their folder."""
    return ", ".join(
        name.removeprefix("hf://datasets/") if name.startswith("hf://") else Path(name).name
        for name in locations
    )
