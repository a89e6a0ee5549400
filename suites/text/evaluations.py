"""The five texts of the paper's Table 1, read from the hub at a pinned revision or from local files.

What is done to each text stands in its entry of `SETS`; the paper states nothing of it.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from suites.errors import UserError
from suites.records.places import place
from suites.records.record import Model, digest
from suites.text.cache import cache_root, seal, sealed, unusable, written
from suites.text.case import Evaluation
from suites.text.corpus import TOGETHER, width
from suites.text.files import Rows, Unreadable, check_readable, opened_as_is, short_names
from suites.text.tokenizer import Bytes, Loss, Tokenizer, bytes_back, utf8_bytes

FORMAT = 2
Texts = Iterable[dict[str, str]]  # of each row the columns that the set uses


class Gap(UserError):
    """A set that cannot be had here and now: a gap in the table, not the end of a run."""


@dataclass(frozen=True)
class TextSet:
    """One of the paper's texts: where it is and what becomes of it."""

    documents: Callable[[Texts], Iterator[str]]
    location: str | None = None  # on the hub; None: no revision is known, a location must be given
    sha256: str | None = None  # of the file at `location`
    columns: tuple[str, ...] = ("text",)
    last_word: bool = False  # whether the last word of each document is a question


def column_text(rows: Texts) -> Iterator[str]:
    """Column `text`, unchanged."""
    for row in rows:
        yield row["text"]


def passages(rows: Texts) -> Iterator[str]:
    """Column `text` up to its last word: nothing that prints nothing stands between it and the end."""
    for row in rows:
        yield cut(row["text"])


def cut(text: str) -> str:
    """`text` without white space, control and format characters at its end."""
    end = len(text)
    while end and (text[end - 1].isspace() or unicodedata.category(text[end - 1]) in ("Cc", "Cf")):
        end -= 1
    return text[:end]


def title_and_summary(rows: Texts) -> Iterator[str]:
    """The title, a line break, the summary: what Curation publishes; articles are linked only."""
    for row in rows:
        yield f"{row['title']}\n{row['summary']}"


ARTICLE = re.compile(r"= [^=].*[^=] =")


def articles(rows: Texts) -> Iterator[str]:
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
    "curation": TextSet(title_and_summary, columns=("title", "summary")),
    # OpenAI's detokenised form of the test split.
    "lambada": TextSet(
        passages,
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
    utf8_bytes: int  # that its tokens stand for
    lost_bytes: int = 0  # that stand in no token
    left_out: int = 0  # rows without text, and documents without the question of their set
    vocabulary: int
    tokenizer: str = Bytes.name
    sha256: str

    def notes(self) -> list[str]:
        """What a user has to know of this set."""
        left_out = f"{self.left_out:,} rows of {self.name} hold nothing for it and are left out"
        return [left_out] * bool(self.left_out) + self.loss().notes()

    def loss(self) -> Loss:
        return Loss(self.utf8_bytes, self.lost_bytes, self.tokenizer, self.name)

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

    Raises UserError for an unknown name, for a local file that is missing or not readable, for one that
    is another than the stated or the pinned one and for a tokenizer that loses too much of it, and Gap
    for a set without a pinned revision or that the hub does not give.
    """
    name, _, where = given.partition("=")
    if name not in SETS:
        raise UserError(f"unknown evaluation set {name!r}; there are {', '.join(SETS)}")
    chosen = SETS[name]
    location, _, stated = where.partition("#sha256=")
    if not (location := location or chosen.location or ""):
        raise Gap(f"no revision of {name} is pinned; give its file: --evaluation {name}=FILE")
    # At another place on the hub lies another file than the pinned one.
    elsewhere = is_hub(location) and location != chosen.location
    wanted = stated or ("" if elsewhere else chosen.sha256 or "")
    if is_hub(location):
        content = location + wanted
    else:
        check_readable(location)
        content = checked(name, location, stated, wanted)
    names = [name, short_names((location,)), tokenizer.name]
    key = digest([FORMAT, names, content, tokenizer.sha256, most_tokens])[:24]
    folder = place(cache_root() / f"{name}-{key}")
    if not folder.exists():
        try:
            if is_hub(location) and wanted:
                checked(name, location, stated, wanted)
            build(folder, name, location, tokenizer, most_tokens, content)
        except Unreadable as error:
            if is_hub(location):
                raise Gap(str(error)) from error
            raise
    prepared = load(folder)
    prepared.loss().check()
    return prepared


def is_hub(location: str) -> bool:
    return location.startswith("hf://")


def checked(name: str, location: str, stated: str, wanted: str) -> str:
    """The sha256 of a file, which is the `wanted` one where there is any."""
    found = sha256_of(location)
    if wanted and found != wanted:
        raise UserError(
            f"{location} has sha256 {found}, {'stated' if stated else f'that of the pinned {name}'} is "
            f"{wanted}; give the right file, or say that this one is meant: {name}={location}#sha256={found}"
        )
    return found


def sha256_of(location: str) -> str:
    try:
        with opened_as_is(location) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except Exception as error:  # the network raises many kinds
        raise Unreadable(f"cannot read {location}: {error}") from error


def load(folder: Path) -> Prepared:
    """Opens a prepared set; raises UserError when its bytes are not those that were written."""
    try:
        prepared = Prepared(folder=folder, **sealed(folder / "set.json"))
        intact = content_digest(folder) == prepared.sha256
    except (OSError, ValueError, TypeError, ValidationError) as error:
        raise unusable(folder, "set.json is missing or was changed", error) from error
    if not intact:
        raise unusable(folder, "its tokens do not match their checksum")
    return prepared


def content_digest(folder: Path) -> str:
    paths = sorted(folder.glob("*.bin"))
    return digest([[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in paths])


def build(
    folder: Path, name: str, location: str, tokenizer: Tokenizer, most_tokens: int, content: str
) -> None:
    with written(folder) as temporary:
        stated = write_set(temporary, name, location, tokenizer, most_tokens)
        if not is_hub(location) and sha256_of(location) != content:
            raise UserError(f"{location} changed while it was read; run again when it is whole")
        seal(temporary / "set.json", stated)


def write_set(
    folder: Path, name: str, location: str, tokenizer: Tokenizer, most_tokens: int
) -> dict[str, Any]:
    """Tokenises until `most_tokens` are reached and writes tokens, ends and, if asked for, answers."""
    chosen = SETS[name]
    rows = Rows((location,), chosen.columns, sample_by="document")
    documents = (text for text in chosen.documents(rows) if text and not text.isspace())
    texts: list[str] = []
    ids: list[np.ndarray] = []
    answers: list[int] = []
    tokens = no_question = 0
    while tokens < most_tokens and (some := list(islice(documents, TOGETHER))):
        encoded = tokenizer.encode(some)
        asked = answers_of(some, encoded, tokenizer) if chosen.last_word else [0] * len(some)
        for text, document, answer in zip(some, encoded, asked, strict=True):
            if tokens < most_tokens:
                if answer is None:
                    no_question += 1
                    continue
                texts.append(text)
                ids.append(document)
                answers.append(answer)
                tokens += len(document)
    if not ids:
        raise UserError(
            f"{short_names((location,))} holds no text to evaluate {name} on"
            + (f"; {no_question:,} documents have no last word to ask for" if no_question else "")
        )
    arrays = {
        "tokens.bin": np.concatenate(ids).astype(width(tokenizer.vocabulary)),
        "ends.bin": np.cumsum([len(document) for document in ids], dtype=np.int64),
    }
    if chosen.last_word:
        arrays["answers.bin"] = np.asarray(answers, dtype=np.int64)
    for file, array in arrays.items():  # not by tofile, which does not say that the disk is full
        (folder / file).write_bytes(array.tobytes())
    back = bytes_back(texts, tokenizer.decode(ids))
    return {
        "name": name,
        "source": short_names((location,)),
        "documents": len(ids),
        "tokens": tokens,
        "utf8_bytes": back,
        "lost_bytes": sum(map(utf8_bytes, texts)) - back,
        "left_out": rows.left_out + no_question,
        "vocabulary": tokenizer.vocabulary,
        "tokenizer": tokenizer.name,
        "sha256": content_digest(folder),
    }


def answers_of(
    texts: list[str], encoded: list[np.ndarray], tokenizer: Tokenizer
) -> Iterator[int | None]:
    """Per text the tokens of its last word; None for a single word and for one that has no token."""
    questions = tokenizer.encode([text.rsplit(maxsplit=1)[0] for text in texts])
    for text, document, question in zip(texts, encoded, questions, strict=True):
        yield answer_tokens(document, question) if len(text.split(maxsplit=1)) > 1 else None


def answer_tokens(document: np.ndarray, question: np.ndarray) -> int | None:
    """Tokens of `document` from the first that `question` lacks; its end is no word."""
    shortest = min(len(document), len(question))
    differ = np.flatnonzero(document[:shortest] != question[:shortest])
    return len(document) - 1 - int(differ[0]) if len(differ) else None
