"""Text to token ids: raw bytes, or the pieces of a SentencePiece file."""

import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np

from suites.errors import UserError


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


class Bytes:
    """One token per UTF-8 byte; byte 0, which text does not hold, ends a document."""

    name = "bytes"
    sha256 = None
    vocabulary = 256

    def encode(self, documents: list[str]) -> list[np.ndarray]:
        texts = (d.encode("utf-8", errors="replace").replace(b"\0", b"") for d in documents)
        return [np.frombuffer(text + b"\0", dtype=np.uint8) for text in texts]


class SentencePiece:
    """The pieces of a SentencePiece model file; its end-of-sentence piece ends a document."""

    def __init__(self, path: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        try:
            content = path.read_bytes()
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


def tokenizer(file: Path | None) -> Tokenizer:
    """Bytes without a file, else its SentencePiece model."""
    return Bytes() if file is None else SentencePiece(file)
