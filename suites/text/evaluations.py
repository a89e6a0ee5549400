"""The five texts of the paper's Table 1, read from the hub at a pinned revision or from local files.

What is done to each text stands in its entry of `SETS`; the paper states nothing of it.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from suites.errors import UserError
from suites.records.record import Model, canonical, digest
from suites.text.cache import cache_root, written
from suites.text.case import Evaluation
from suites.text.corpus import TOGETHER, width
from suites.text.sources import rows, short_names
from suites.text.tokenizer import Tokenizer

FORMAT = 1
Rows = Iterable[dict[str, Any]]


class Gap(UserError):
    """A set that cannot be had here and now: a gap in the table, not the end of a run."""


@dataclass(frozen=True)
class TextSet:
    """One of the paper's texts: where it is and what becomes of it."""

    documents: Callable[[Rows], Iterator[str]]
    location: str | None = None  # on the hub; None: no revision is known, a location must be given
    sha256: str | None = None  # of the file at `location`
    last_word: bool = False  # whether the last word of each document is a question


def column_text(rows: Rows) -> Iterator[str]:
    """Column `text`, unchanged."""
    for row in rows:
        yield row["text"]


def title_and_summary(rows: Rows) -> Iterator[str]:
    """The title, a line break, the summary: what Curation publishes; articles are linked only."""
    for row in rows:
        yield f"{row['title']}\n{row['summary']}"


ARTICLE = re.compile(r"= [^=].*[^=] =")


def articles(rows: Rows) -> Iterator[str]:
    """Articles begin at a heading of level one; lines are stripped and empty ones dropped.

    So the hub's row per line and the raw file give the same text. WikiText's own spacing and its
    marks such as @-@ stay.
    """
    lines: list[str] = []
    for line in (line.strip() for row in rows for line in row["text"].split("\n")):
        if ARTICLE.fullmatch(line) and lines:
            yield "\n".join(lines)
            lines = []
        if line:
            lines.append(line)
    if lines:
        yield "\n".join(lines)


HUB = "hf://datasets"
SETS = {
    # d0rj/curation-corpus on the hub; its revision is not pinned here.
    "curation": TextSet(title_and_summary),
    # OpenAI's detokenised form of the test split.
    "lambada": TextSet(
        column_text,
        f"{HUB}/EleutherAI/lambada_openai@900124bf3b8235c6daf21033af9948b3f07346c4"
        "/data/lambada_test_en.jsonl",
        "4aa8d02cd17c719165fc8a7887fddd641f43fcafa4b1c806ca8abc31fabdb226",
        last_word=True,
    ),
    # The Pile itself is withdrawn; this is it without its copyrighted parts.
    "pile": TextSet(
        column_text,
        f"{HUB}/monology/pile-uncopyrighted@3be90335b66f24456a5d6659d9c8d208c0357119/test.jsonl.zst",
    ),
    "wikitext": TextSet(
        articles,
        f"{HUB}/Salesforce/wikitext@b08601e04326c79dfdd32d625aee71d232d685c3"
        "/wikitext-103-raw-v1/test-00000-of-00001.parquet",
    ),
    "c4": TextSet(
        column_text,
        f"{HUB}/allenai/c4@1588ec454efa1a09f29cd18ddd04fe05fc8653a2"
        "/en/c4-validation.00000-of-00008.json.gz",
    ),
}


class Prepared(Model):
    """A tokenised set on disk: whole documents, in their order, up to a number of tokens."""

    folder: Path
    name: str
    source: str
    documents: int
    tokens: int
    utf8_bytes: int
    vocabulary: int
    sha256: str

    def evaluation(self) -> Evaluation:
        """What identifies this set in a case."""
        return Evaluation(name=self.name, source=self.source, sha256=self.sha256)

    def token_ids(self) -> np.ndarray:
        """All documents (tokens,), the end of each marked by one token."""
        return np.fromfile(self.folder / "tokens.bin", dtype=width(self.vocabulary))

    def ends(self) -> np.ndarray:
        """Per document (documents,) the number of tokens up to and including its end."""
        return np.fromfile(self.folder / "ends.bin", dtype=np.int64)

    def answers(self) -> np.ndarray | None:
        """Per document (documents,) the tokens of its last word; None where no word is asked for."""
        path = self.folder / "answers.bin"
        return np.fromfile(path, dtype=np.int64) if path.exists() else None


def prepare_set(given: str, tokenizer: Tokenizer, most_tokens: int) -> Prepared:
    """The set that --evaluation names, tokenised now or in the cache.

    `given` is NAME, the hub's file at the pinned revision, or NAME=FILE, a local or hub file, which
    may be followed by #sha256=HEX. Documents are taken until `most_tokens` are reached.

    Raises UserError for an unknown name and for a local file that is missing, not readable or another
    than the pinned one, and Gap for a set without a pinned revision or that the hub does not give.
    """
    name, _, place = given.partition("=")
    if name not in SETS:
        raise UserError(f"unknown evaluation set {name!r}; there are {', '.join(SETS)}")
    chosen = SETS[name]
    location, _, stated = place.partition("#sha256=")
    if not (location := location or chosen.location or ""):
        raise Gap(f"no revision of {name} is pinned; give its file: --evaluation {name}=FILE")
    content = location if location.startswith("hf://") else checked(name, location, stated)
    key = digest([FORMAT, name, content, tokenizer.name, tokenizer.sha256, most_tokens])[:24]
    folder = cache_root() / f"{name}-{key}"
    if not folder.exists():
        try:
            build(folder, name, location, tokenizer, most_tokens)
        except UserError as error:
            if location.startswith("hf://"):
                raise Gap(str(error)) from error
            raise
    return load(folder)


def checked(name: str, location: str, stated: str) -> str:
    """The sha256 of a local file, which is the stated one, else the pinned one, where there is either."""
    path = Path(location)
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    wanted = stated or SETS[name].sha256
    if wanted and found != wanted:
        raise UserError(
            f"{path} has sha256 {found}, {'stated' if stated else f'that of the pinned {name}'} is "
            f"{wanted}; give the right file, or say that this one is meant: {name}={path}#sha256={found}"
        )
    return found


def load(folder: Path) -> Prepared:
    """Opens a prepared set; raises UserError when its bytes are not those that were written."""
    try:
        stated = json.loads((folder / "set.json").read_text(encoding="utf-8"))
        prepared = Prepared(folder=folder, **stated)
        intact = content_digest(folder) == prepared.sha256
    except (OSError, ValueError, TypeError, ValidationError):
        intact = False
    if not intact:
        raise UserError(
            f"the evaluation cache {folder} is damaged; delete that folder and run again"
        )
    return prepared


def content_digest(folder: Path) -> str:
    paths = sorted(folder.glob("*.bin"))
    return digest([[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in paths])


def build(folder: Path, name: str, location: str, tokenizer: Tokenizer, most_tokens: int) -> None:
    with written(folder) as temporary:
        stated = write_set(temporary, name, location, tokenizer, most_tokens)
        (temporary / "set.json").write_text(canonical(stated), encoding="utf-8")


def write_set(
    folder: Path, name: str, location: str, tokenizer: Tokenizer, most_tokens: int
) -> dict[str, Any]:
    """Tokenises until `most_tokens` are reached and writes tokens, ends and, if asked for, answers."""
    documents = texts(name, location)
    ids: list[np.ndarray] = []
    answers: list[int] = []
    utf8_bytes = tokens = 0
    while tokens < most_tokens and (some := list(islice(documents, TOGETHER))):
        encoded = tokenizer.encode(some)
        if SETS[name].last_word:
            questions = tokenizer.encode([text.rsplit(maxsplit=1)[0] for text in some])
            answers += map(answer_tokens, encoded, questions)
        for text, document in zip(some, encoded, strict=True):
            if tokens < most_tokens:
                ids.append(document)
                tokens += len(document)
                utf8_bytes += len(text.encode("utf-8", errors="replace"))
    if not ids:
        raise UserError(f"{short_names((location,))} holds no text to evaluate {name} on")
    np.concatenate(ids).astype(width(tokenizer.vocabulary)).tofile(folder / "tokens.bin")
    np.cumsum([len(document) for document in ids], dtype=np.int64).tofile(folder / "ends.bin")
    if SETS[name].last_word:
        np.asarray(answers[: len(ids)], dtype=np.int64).tofile(folder / "answers.bin")
    return {
        "name": name,
        "source": short_names((location,)),
        "documents": len(ids),
        "tokens": tokens,
        "utf8_bytes": utf8_bytes,
        "vocabulary": tokenizer.vocabulary,
        "sha256": content_digest(folder),
    }


def answer_tokens(document: np.ndarray, question: np.ndarray) -> int:
    """Tokens of `document` from the first that `question` lacks; its end is no word."""
    shortest = min(len(document), len(question))
    differ = np.flatnonzero(document[:shortest] != question[:shortest])
    return len(document) - 1 - int(differ[0])


def texts(name: str, location: str) -> Iterator[str]:
    """The documents of a set that hold more than one word."""
    try:
        for text in SETS[name].documents(rows((location,), sample_by="document")):
            if len(text.split(maxsplit=1)) > 1:
                yield text
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{short_names((location,))} is not {name}: {SETS[name].documents.__name__} finds no "
            f"{error} in it"
        ) from error
