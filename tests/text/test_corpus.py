"""Sources, tokenizers and the token cache, on files made here and on the standard library."""

import errno
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from suites.errors import UserError
from suites.text import corpus as corpora
from suites.text.corpus import SPLITS, fingerprint, prepare
from suites.text.sources import Files, StandardLibrary, source
from suites.text.tokenizer import Bytes, SentencePiece, tokenizer

ROOT = Path(__file__).resolve().parents[2]
WORDS = ("the", "expert", "retrieves", "a", "product", "key", "from", "one", "million", "networks")


def document(seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=60)) + f" {seed} naïve\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PEER_SUITE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps({"text": document(i)}) + "\n" for i in range(400)))
    return path


def test_bytes_round_trip() -> None:
    text = "naïve ∀x\n"
    (ids,) = Bytes().encode([text])
    assert bytes(ids[:-1].tolist()).decode() == text
    assert ids[-1] == 0
    assert ids.max() < Bytes.vocabulary


def test_sentencepiece_round_trip(pieces: Path) -> None:
    pieced = SentencePiece(pieces)
    (ids,) = pieced.encode(["the expert retrieves a key"])
    assert pieced.processor.decode(ids[:-1].tolist()) == "the expert retrieves a key"
    assert ids[-1] == pieced.processor.eos_id()
    assert pieced.vocabulary == 40


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "txt", "jsonl.gz"])
def test_local_files_of_every_kind(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"documents.{kind}"
    frame = pd.DataFrame({"text": [document(i) for i in range(20)]})
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "txt":
        path.write_text("".join(frame["text"]))
    else:
        frame.to_json(path, orient="records", lines=True)
    found = list(Files((str(path),)).documents())
    if kind == "txt":
        assert "".join(found).split() == "".join(frame["text"]).split()
    else:
        assert found == list(frame["text"])


def test_standard_library_is_real_text() -> None:
    library = StandardLibrary()
    texts = list(library.documents())
    assert len(texts) > 300
    assert any("Mersenne Twister" in text for text in texts)  # random.py
    assert library.identity() == StandardLibrary().identity()


def test_splits_share_no_document(jsonl: Path) -> None:
    repeated = jsonl.with_name("repeated.jsonl")
    repeated.write_text(jsonl.read_text() * 2)
    corpus = prepare(source((str(repeated),)), None, Bytes())
    sides = []
    for split in SPLITS:
        text = bytes(corpus.tokens(split).astype(np.uint8))
        sides.append({fingerprint(part.decode()) for part in text.split(b"\0")[:-1]})
        stated = getattr(corpus, split)
        assert stated.tokens == len(text)
        assert stated.utf8_bytes == len(text) - stated.documents
    assert all(sides)
    assert not sides[0] & sides[1]
    assert corpus.train.documents + corpus.validation.documents == 800


def test_held_out_documents_leave_training(jsonl: Path, tmp_path: Path) -> None:
    held = tmp_path / "held.jsonl"
    held.write_text("".join(json.dumps({"text": document(i)}) + "\n" for i in (3, 5, 1000)))
    corpus = prepare(source((str(jsonl),)), source((str(held),)), Bytes())
    assert corpus.validation.documents == 3
    assert corpus.train.documents == 398


def test_a_second_run_reads_the_cache(jsonl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(source((str(jsonl),)), None, Bytes())
    monkeypatch.setattr(corpora, "build", lambda *_: pytest.fail("tokenised twice"))
    assert prepare(source((str(jsonl),)), None, Bytes()) == first


def test_changed_content_is_another_corpus(jsonl: Path, pieces: Path) -> None:
    first = prepare(source((str(jsonl),)), None, Bytes())
    pieced = prepare(source((str(jsonl),)), None, tokenizer(pieces))
    jsonl.write_text(jsonl.read_text().replace("million", "billion"))
    changed = prepare(source((str(jsonl),)), None, Bytes())
    assert len({c.text().sha256 for c in (first, pieced, changed)}) == 3
    assert pieced.text().tokenizer == "own.model"


@pytest.mark.parametrize("victim", ["train.bin", "validation.bin", "corpus.json"])
@pytest.mark.parametrize("damage", ["changed", "truncated", "removed"])
def test_damaged_cache_is_refused(jsonl: Path, victim: str, damage: str) -> None:
    corpus = prepare(source((str(jsonl),)), None, Bytes())
    path = corpus.folder / victim
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(content if damage == "changed" else content[:-7])
    with pytest.raises(UserError, match="is damaged: .*; delete that folder and run again"):
        prepare(source((str(jsonl),)), None, Bytes())


@pytest.mark.parametrize("field", ["vocabulary", "source", "tokenizer", "utf8_bytes", "tokens"])
def test_an_edited_description_is_refused(jsonl: Path, field: str) -> None:
    path = prepare(source((str(jsonl),)), None, Bytes()).folder / "corpus.json"
    text = path.read_text()
    stated = json.loads(text)
    side = stated["validation"] if field in ("utf8_bytes", "tokens") else stated
    side[field] = side[field] + 1 if isinstance(side[field], int) else "another"
    path.write_text(json.dumps(stated))
    with pytest.raises(
        UserError, match="corpus.json is missing or was changed; delete that folder"
    ):
        prepare(source((str(jsonl),)), None, Bytes())


CLOSED = {  # what another user made and did not open: permissions of folders, of files, of the root
    "files": (
        0o755,
        0o600,
        0o755,
        "cannot be read: Permission denied; PEER_SUITE_CACHE names another",
    ),
    "folders": (0o700, 0o644, 0o755, "cannot be read: Permission denied; PEER_SUITE_CACHE names"),
    "root": (0o755, 0o644, 0o700, "cannot use .*: Permission denied; name another place"),
    "nothing": (0o755, 0o644, 0o755, None),
}


@pytest.mark.parametrize("closed", CLOSED)
def test_the_cache_of_another_user(
    closed: str, jsonl: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A healthy cache that may not be read is not called damaged, and one that may be is used."""
    folders, files, root, message = CLOSED[closed]
    text, cache = shutil.copy(jsonl, open_folder), open_folder / "cache"
    monkeypatch.setenv("PEER_SUITE_CACHE", str(cache))
    program = (
        "import os, sys; import hashlib, pydantic, suites.text.corpus\n"
        "from suites.text.corpus import prepare\n"
        "from suites.text.evaluations import prepare_set\n"
        "from suites.text.sources import source\n"
        "from suites.text.tokenizer import Bytes\n"
        "if sys.argv[2] == 'other' and os.getuid() == 0: os.setuid(65534)\n"
        "for act in (lambda: prepare(source((sys.argv[1],)), None, Bytes()),\n"
        "            lambda: prepare_set('c4=' + sys.argv[1], Bytes(), 99)):\n"
        "    try: act(); print('read')\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )

    def tried(user: str) -> list[str]:
        words = [sys.executable, "-c", program, text, user]
        return subprocess.run(
            words, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
        ).stdout.splitlines()

    assert tried("own") == ["read", "read"]
    for path in cache.rglob("*"):
        path.chmod(folders if path.is_dir() else files)
    cache.chmod(root)
    for line in (lines := tried("other")):
        assert re.match(f"UserError .*{message}" if message else "read$", line)
    assert len(lines) == 2


def test_the_side_of_a_document_is_its_content(jsonl: Path) -> None:
    """Whatever comes before it: another order of documents is the same two sides."""
    lines = jsonl.read_text().splitlines(keepends=True)
    sides = []
    for some in (lines, lines[::-1], lines[7:]):
        jsonl.write_text("".join(some))
        text = bytes(prepare(source((str(jsonl),)), None, Bytes()).tokens("validation").tolist())
        sides.append({part.decode() for part in text.split(b"\0")[:-1]})
    assert sides[0] == sides[1]
    left_out = {json.loads(line)["text"] for line in lines[:7]}
    assert sides[2] == sides[0] - left_out


def test_bytes_of_a_side_are_those_of_its_own_text(tmp_path: Path, pieces: Path) -> None:
    """Characters of two bytes on one side and of one on the other: neither ratio fits the other."""
    plain, accents = tmp_path / "plain.jsonl", tmp_path / "accents.jsonl"
    plain.write_text(json.dumps({"text": "the expert"}))
    accents.write_text(json.dumps({"text": "é" * 50}))
    corpus = prepare(source((str(plain),)), source((str(accents),)), Bytes())
    assert (corpus.train.utf8_bytes, corpus.train.tokens) == (10, 11)
    assert (corpus.validation.utf8_bytes, corpus.validation.tokens) == (100, 101)
    pieced = prepare(source((str(accents),)), source((str(plain),)), SentencePiece(pieces))
    assert (pieced.train.utf8_bytes, pieced.train.lost_bytes) == (0, 100)


def test_a_lossy_tokenizer_is_named_and_a_worse_one_refused(jsonl: Path, pieces: Path) -> None:
    words = [" ".join(random.Random(i).choices(WORDS, k=60)) for i in range(400)]
    jsonl.write_text("".join(json.dumps({"text": text + " {"}) + "\n" for text in words))
    corpus = prepare(source((str(jsonl),)), None, SentencePiece(pieces))
    (note,) = corpus.notes()
    assert re.search(r"own.model loses \d\.\d\d% of the bytes of the validation text", note)
    total = corpus.validation.utf8_bytes + corpus.validation.lost_bytes
    assert corpus.validation.lost_bytes == corpus.validation.documents  # their braces
    assert total == sum(
        len(text) + 2
        for text in words
        if int(fingerprint(text + " {")[:8], 16) % corpora.VALIDATION_SHARE == 0
    )
    jsonl.write_text("".join(json.dumps({"text": text.upper()}) + "\n" for text in words))
    with pytest.raises(UserError, match="own.model loses .* at most 10% may be lost"):
        prepare(source((str(jsonl),)), None, SentencePiece(pieces))


def test_full_disk_leaves_nothing(jsonl: Path, own_cache: Path, monkeypatch) -> None:
    def full(*_) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="cannot write the token cache .*: No space left on device"):
        prepare(source((str(jsonl),)), None, Bytes())
    assert list(own_cache.iterdir()) == []


def test_a_disk_that_fills_up_is_the_cause(jsonl: Path, own_cache: Path) -> None:
    """A limit on file size stands for the disk."""
    program = (
        "import resource, signal, sys\n"
        "from suites.text.corpus import prepare\n"
        "from suites.text.evaluations import prepare_set\n"
        "from suites.text.sources import source\n"
        "from suites.text.tokenizer import Bytes\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))\n"
        "for act in (lambda: prepare(source((sys.argv[1],)), None, Bytes()),\n"
        "            lambda: prepare_set('c4=' + sys.argv[1], Bytes(), 99999)):\n"
        "    try: act(); print('read')\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(jsonl)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    assert all(
        re.match("UserError cannot write the token cache .*: File too large; ", line)
        for line in lines
    ), lines
    assert list(own_cache.iterdir()) == []


def test_a_home_without_a_cache_names_the_way_out(
    jsonl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PEER_SUITE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/dev/null")
    with pytest.raises(UserError, match=r"cannot write the token cache .*; PEER_SUITE_CACHE names"):
        prepare(source((str(jsonl),)), None, Bytes())


@pytest.mark.parametrize(
    ("locations", "message"),
    [
        (("missing.parquet",), "no such file: missing.parquet"),
        (("notes.docx",), "files must end in one of .parquet, .jsonl"),
        (("a.txt", "b.jsonl"), "must be of one kind; got json, text"),
        (("hf://datasets/allenai/c4/en/c4-train.json.gz",), "with the 40 hex digits of a commit"),
    ],
)
def test_bad_locations(locations: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Files(locations)


def test_bad_content(tmp_path: Path) -> None:
    broken, other = tmp_path / "broken.parquet", tmp_path / "other.jsonl"
    broken.write_bytes(b"PAR1 no")
    other.write_text('{"body": "x"}\n')
    with pytest.raises(UserError, match="cannot read broken.parquet as parquet"):
        list(Files((str(broken),)).documents())
    with pytest.raises(UserError, match="other.jsonl has no column 'text'; it has body"):
        list(Files((str(other),)).documents())
    with pytest.raises(UserError, match="broken.parquet is not a SentencePiece model"):
        SentencePiece(broken)
    with pytest.raises(UserError, match="cannot read tokenizer .*No such file"):
        SentencePiece(tmp_path / "missing.model")
