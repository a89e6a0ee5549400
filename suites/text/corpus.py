"""Documents, tokenised once into a memory-mapped cache whose content is checked by sha256."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import ValidationError
from tqdm import tqdm

from suites.errors import UserError
from suites.records.places import place
from suites.records.record import Model, digest
from suites.text.cache import cache_root, seal, sealed, unusable, written
from suites.text.case import Text
from suites.text.sources import Source
from suites.text.tokenizer import Loss, Tokenizer, bytes_back, utf8_bytes

FORMAT = 2
SPLITS = ("train", "validation")
TOGETHER = 256  # documents encoded in one call, so that a tokenizer can use all cores
VALIDATION_SHARE = 50  # one document in 50, by digest of its text


class Split(Model):
    """One side of a corpus: `tokens` ids that stand for `utf8_bytes` of text.

    The `lost_bytes` of its documents stand in no token.
    """

    documents: int
    tokens: int
    utf8_bytes: int
    lost_bytes: int = 0
    sha256: str


class Corpus(Model):
    """A tokenised corpus on disk. Training and validation share no document."""

    folder: Path
    source: str
    tokenizer: str
    tokenizer_sha256: str | None
    vocabulary: int
    left_out: int = 0  # rows without text, training and held-out files together
    train: Split
    validation: Split

    def notes(self) -> list[str]:
        """What a user has to know of this text."""
        left_out = f"{self.left_out:,} rows of the text hold none in column 'text' and are left out"
        return [left_out] * bool(self.left_out) + self.loss().notes()

    def loss(self) -> Loss:
        """Of the validation text, from which bits per byte are computed."""
        split, name = self.validation, f"the validation text of {self.source}"
        return Loss(split.utf8_bytes, split.lost_bytes, self.tokenizer, name)

    def tokens(self, split: str) -> np.ndarray:
        """Token ids of a split (tokens,), memory-mapped, read only."""
        path = self.folder / f"{split}.bin"
        try:
            return np.memmap(path, dtype=width(self.vocabulary), mode="r")
        except (OSError, ValueError) as error:
            raise unusable(self.folder, f"{path.name} cannot be mapped", error) from error

    def text(self) -> Text:
        """What identifies this corpus in a case."""
        return Text(
            source=self.source,
            tokenizer=self.tokenizer,
            tokenizer_sha256=self.tokenizer_sha256,
            sha256=digest([self.train.sha256, self.validation.sha256]),
        )


def prepare(source: Source, held_out: Source | None, tokenizer: Tokenizer) -> Corpus:
    """The corpus of `source`, from the cache or tokenised now with a progress bar.

    Validation is `held_out`, whose documents are then dropped from training, or without it the documents
    of `source` whose digest falls to it, so that equal documents always lie on one side.

    Raises UserError where a file changes while it is read, and where the tokenizer loses too much.
    """
    sources = [part.identity() for part in (source, held_out) if part is not None]
    key = digest([FORMAT, source.name, sources, tokenizer.name, tokenizer.sha256])[:24]
    folder = place(cache_root() / key)
    if not folder.exists():
        build(folder, source, held_out, tokenizer, sources)
    corpus = load(folder)
    for split in SPLITS:
        verify(corpus, split)
    corpus.loss().check()
    return corpus


def load(folder: Path) -> Corpus:
    """Opens a prepared corpus without reading its tokens; raises UserError when it is damaged."""
    try:
        corpus = Corpus(folder=folder, **sealed(folder / "corpus.json"))
    except (OSError, ValueError, TypeError, ValidationError) as error:
        raise unusable(folder, "corpus.json is missing or was changed", error) from error
    return corpus


def verify(corpus: Corpus, split: str) -> None:
    """Reads a split once; raises UserError when its bytes are not those that were written."""
    try:
        with (corpus.folder / f"{split}.bin").open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unusable(corpus.folder, f"{split}.bin: {error.strerror}", error) from error
    if found != getattr(corpus, split).sha256:
        raise unusable(corpus.folder, f"{split}.bin does not match its checksum")


def build(
    folder: Path, source: Source, held_out: Source | None, tokenizer: Tokenizer, sources: list[str]
) -> None:
    with written(folder) as temporary:
        splits = write_splits(temporary, source, held_out, tokenizer)
        empty = [name for name, split in splits.items() if not split.utf8_bytes + split.lost_bytes]
        if empty:
            side = "train on" if "train" in empty else "validate on"
            raise UserError(
                f"{source.name} holds no text to {side}: {splits['train'].documents} documents for training, "
                f"{splits['validation'].documents} for validation; give more documents, or --held-out"
            )
        parts = [part for part in (source, held_out) if part is not None]
        if [part.identity() for part in parts] != sources:
            raise UserError(f"{source.name} changed while it was read; run again when it is whole")
        stated = {
            "source": source.name,
            "tokenizer": tokenizer.name,
            "tokenizer_sha256": tokenizer.sha256,
            "vocabulary": tokenizer.vocabulary,
            "left_out": sum(part.left_out for part in parts),
            **{name: split.model_dump() for name, split in splits.items()},
        }
        seal(temporary / "corpus.json", stated)


def write_splits(
    folder: Path, source: Source, held_out: Source | None, tokenizer: Tokenizer
) -> dict[str, Split]:
    with (
        Writer(folder / "train.bin", tokenizer) as train,
        Writer(folder / "validation.bin", tokenizer) as validation,
    ):
        held = set()
        if held_out is not None:
            for document in progress(held_out, "tokenising validation"):
                held.add(fingerprint(document))
                validation.add(document)
        for document in progress(source, "tokenising"):
            mark = fingerprint(document)
            if held_out is None:
                falls_to_validation = int(mark[:8], 16) % VALIDATION_SHARE == 0
                (validation if falls_to_validation else train).add(document)
            elif mark not in held:
                train.add(document)
        return {"train": train.close(), "validation": validation.close()}


def progress(source: Source, what: str) -> Iterator[str]:
    return iter(tqdm(source.documents(), what, unit=" documents", disable=None))


class Writer:
    """Appends encoded documents to one token file and counts what it wrote."""

    def __init__(self, path: Path, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.file = path.open("wb")
        self.hash = hashlib.sha256()
        self.waiting: list[str] = []
        self.documents = self.tokens = self.utf8_bytes = self.lost_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def add(self, document: str) -> None:
        self.waiting.append(document)
        if len(self.waiting) == TOGETHER:
            self.encode_waiting()

    def encode_waiting(self) -> None:
        encoded = self.tokenizer.encode(self.waiting)
        for ids in encoded:
            content = ids.astype(width(self.tokenizer.vocabulary)).tobytes()
            self.file.write(content)
            self.hash.update(content)
            self.tokens += len(ids)
        self.documents += len(self.waiting)
        back = bytes_back(self.waiting, self.tokenizer.decode(encoded))
        self.utf8_bytes += back
        self.lost_bytes += sum(map(utf8_bytes, self.waiting)) - back
        self.waiting.clear()

    def close(self) -> Split:
        self.encode_waiting()
        self.file.flush()
        os.fsync(self.file.fileno())
        return Split(
            documents=self.documents,
            tokens=self.tokens,
            utf8_bytes=self.utf8_bytes,
            lost_bytes=self.lost_bytes,
            sha256=self.hash.hexdigest(),
        )


def fingerprint(document: str) -> str:
    return hashlib.sha256(document.encode("utf-8", errors="replace")).hexdigest()


def width(vocabulary: int) -> type[np.unsignedinteger]:
    return np.uint16 if vocabulary <= 2**16 else np.uint32
