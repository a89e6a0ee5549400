"""Text to token ids: raw bytes, or the pieces of a SentencePiece file."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from suites.errors import UserError
from suites.records.places import place

MAX_LOST_SHARE = 0.1  # of a text's bytes; above it bits per byte say little about the text


class Tokenizer(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str | None:
        """Of the tokenizer's file; None for bytes."""

    @property
    def vocabulary(self) -> int: ...

    def encode(self, documents: list[str]) -> list[np.ndarray]:
        """Token ids of each document, its end marked by one token."""

    def decode(self, encoded: list[np.ndarray]) -> list[str]:
        """What each document's tokens stand for: nothing for its end and for unknown pieces."""


def bytes_back(documents: list[str], decoded: list[str]) -> int:
    """UTF-8 bytes of the characters of `documents` that are in `decoded` too, each as often as in both.

    So a line break that became a space is lost, and so is a letter without its accent.
    """
    return sum(
        utf8_bytes(document)
        if document == back
        else sum(utf8_bytes(c) * n for c, n in (Counter(document) & Counter(back)).items())
        for document, back in zip(documents, decoded, strict=True)
    )


def utf8_bytes(text: str) -> int:
    return len(text.encode("utf-8", errors="replace"))


class Loss(NamedTuple):
    """What becomes of the bytes of a text: kept in its tokens, or lost."""

    kept_bytes: int
    lost_bytes: int
    tokenizer: str
    text: str

    def notes(self) -> list[str]:
        """A sentence where anything is lost."""
        return [f"{self}; bits per byte do not count them"] if self.lost_bytes else []

    def check(self) -> None:
        """Raises UserError above `MAX_LOST_SHARE`."""
        if self.share() > MAX_LOST_SHARE:
            raise UserError(
                f"{self}, and at most {MAX_LOST_SHARE:.0%} may be lost; give a tokenizer made for such "
                "text, or none: then every byte is a token"
            )

    def share(self) -> float:
        return self.lost_bytes / max(1, self.kept_bytes + self.lost_bytes)

    def __str__(self) -> str:
        return (
            f"{self.tokenizer} loses {self.share():.2%} of the bytes of {self.text}: they do not come "
            "back from its tokens"
        )


class Bytes:
    """One token per UTF-8 byte; byte 0, which text does not hold, ends a document."""

    name = "bytes"
    sha256 = None
    vocabulary = 256

    def encode(self, documents: list[str]) -> list[np.ndarray]:
        texts = (d.encode("utf-8", errors="replace").replace(b"\0", b"") for d in documents)
        return [np.frombuffer(text + b"\0", dtype=np.uint8) for text in texts]

    def decode(self, encoded: list[np.ndarray]) -> list[str]:
        return [ids[:-1].tobytes().decode() for ids in encoded]


class SentencePiece:
    """The pieces of a SentencePiece model file; its end-of-sentence piece ends a document."""

    def __init__(self, path: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        try:
            content = place(path).read_bytes()
        except OSError as error:
            raise UserError(f"cannot read tokenizer {path}: {error.strerror}") from error
        self.processor = SentencePieceProcessor()
        try:
            self.processor.LoadFromSerializedProto(content)
        except RuntimeError as error:
            raise UserError(f"{path} is not a SentencePiece model") from error
        if self.processor.eos_id() < 0:
            raise UserError(f"{path} has no end-of-sentence piece to end a document with")
        self.name = path.name
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.vocabulary = self.processor.vocab_size()

    def encode(self, documents: list[str]) -> list[np.ndarray]:
        """Encodes on all cores at once."""
        pieces = self.processor.encode(documents, num_threads=-1)
        return [np.asarray([*ids, self.processor.eos_id()]) for ids in pieces]

    def decode(self, encoded: list[np.ndarray]) -> list[str]:
        unknown = self.processor.unk_id()
        known = [ids[:-1][ids[:-1] != unknown].tolist() for ids in encoded]
        return self.processor.decode(known, num_threads=-1)


def tokenizer(file: Path | None) -> Tokenizer:
    """Bytes without a file, else its SentencePiece model."""
    return Bytes() if file is None else SentencePiece(file)
