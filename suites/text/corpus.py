"""Documents, tokenised once into a memory-mapped cache whose content is checked by sha256."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import ValidationError
from tqdm import tqdm

from suites.errors import UserError
from suites.records.record import Model, canonical, digest
from suites.text.cache import cache_root, written
from suites.text.case import Text
from suites.text.sources import Source
from suites.text.tokenizer import Tokenizer

FORMAT = 1
SPLITS = ("train", "validation")
TOGETHER = 256  # documents encoded in one call, so that a tokenizer can use all cores
VALIDATION_SHARE = 50  # one document in 50, by digest of its text


class Split(Model):
    """One side of a corpus: `tokens` ids that stand for `utf8_bytes` of text."""

    documents: int
    tokens: int
    utf8_bytes: int
    sha256: str


class Corpus(Model):
    """A tokenised corpus on disk. Training and validation share no document."""

    folder: Path
    source: str
    tokenizer: str
    tokenizer_sha256: str | None
    vocabulary: int
    train: Split
    validation: Split

    def tokens(self, split: str) -> np.ndarray:
        """Token ids of a split (tokens,), memory-mapped, read only."""
        path = self.folder / f"{split}.bin"
        try:
            return np.memmap(path, dtype=width(self.vocabulary), mode="r")
        except (OSError, ValueError) as error:
            raise damaged(self.folder, f"{path.name} cannot be mapped") from error

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
    """
    sources = [source.identity(), held_out.identity() if held_out else None]
    key = digest([FORMAT, sources, tokenizer.name, tokenizer.sha256])[:24]
    folder = cache_root() / key
    if not folder.exists():
        build(folder, source, held_out, tokenizer)
    corpus = load(folder)
    for split in SPLITS:
        verify(corpus, split)
    return corpus


def load(folder: Path) -> Corpus:
    """Opens a prepared corpus without reading its tokens; raises UserError when it is damaged."""
    try:
        stated = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        corpus = Corpus(folder=folder, **stated)
    except (OSError, ValueError, TypeError, ValidationError) as error:
        raise damaged(folder, "corpus.json is missing or not valid") from error
    return corpus


def verify(corpus: Corpus, split: str) -> None:
    """Reads a split once; raises UserError when its bytes are not those that were written."""
    try:
        with (corpus.folder / f"{split}.bin").open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise damaged(corpus.folder, f"{split}.bin: {error.strerror}") from error
    if found != getattr(corpus, split).sha256:
        raise damaged(corpus.folder, f"{split}.bin does not match its checksum")


def damaged(folder: Path, what: str) -> UserError:
    return UserError(
        f"the token cache {folder} is damaged: {what}; delete that folder and run again"
    )


def build(folder: Path, source: Source, held_out: Source | None, tokenizer: Tokenizer) -> None:
    with written(folder) as temporary:
        splits = write_splits(temporary, source, held_out, tokenizer)
        if not splits["train"].utf8_bytes or not splits["validation"].utf8_bytes:
            side = "train on" if not splits["train"].utf8_bytes else "validate on"
            raise UserError(
                f"{source.name} holds no text to {side}: {splits['train'].documents} documents for training, "
                f"{splits['validation'].documents} for validation; give more documents, or --held-out"
            )
        stated = {
            "source": source.name,
            "tokenizer": tokenizer.name,
            "tokenizer_sha256": tokenizer.sha256,
            "vocabulary": tokenizer.vocabulary,
            **{name: split.model_dump() for name, split in splits.items()},
        }
        (temporary / "corpus.json").write_text(canonical(stated), encoding="utf-8")


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
        self.documents = self.tokens = self.utf8_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def add(self, document: str) -> None:
        self.waiting.append(document)
        if len(self.waiting) == TOGETHER:
            self.encode_waiting()

    def encode_waiting(self) -> None:
        for ids in self.tokenizer.encode(self.waiting):
            content = ids.astype(width(self.tokenizer.vocabulary)).tobytes()
            self.file.write(content)
            self.hash.update(content)
            self.tokens += len(ids)
        self.documents += len(self.waiting)
        self.utf8_bytes += sum(len(d.encode("utf-8", errors="replace")) for d in self.waiting)
        self.waiting.clear()

    def close(self) -> Split:
        self.encode_waiting()
        self.file.flush()
        os.fsync(self.file.fileno())
        return Split(
            documents=self.documents,
            tokens=self.tokens,
            utf8_bytes=self.utf8_bytes,
            sha256=self.hash.hexdigest(),
        )


def fingerprint(document: str) -> str:
    return hashlib.sha256(document.encode("utf-8", errors="replace")).hexdigest()


def width(vocabulary: int) -> type[np.unsignedinteger]:
    return np.uint16 if vocabulary <= 2**16 else np.uint32
