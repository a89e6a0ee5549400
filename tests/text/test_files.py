"""Files as users have them: their names, their compression, their columns, their rows."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from suites.errors import UserError
from suites.text.corpus import prepare
from suites.text.evaluations import Gap, prepare_set
from suites.text.files import HUB, Rows, Unreadable
from suites.text.sources import Files, digest_files, source
from suites.text.tokenizer import Bytes

ROOT = Path(__file__).resolve().parents[2]
LINES = [{"text": f"document {i} with several words"} for i in range(5)]
LONG = {
    "text": "word " * 400
}  # 6000 of them are more than readers look at before they guess a type


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEER_SUITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


def jsonl(name: str, rows: list[dict]) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def parquet(name: str, **columns) -> str:
    pq.write_table(pa.table(columns), name)
    return name


def read(*locations: str) -> list[str]:
    return list(Files(locations).documents())


@pytest.mark.parametrize(
    ("named", "other"),
    [
        ("part[1].jsonl", "part1.jsonl"),
        ("a*.jsonl", "ab.jsonl"),
        ("what?.jsonl", "whats.jsonl"),
        ("{a,b}.jsonl", "a.jsonl"),
        ("data [x]/a.jsonl", "data x/a.jsonl"),
        ("a**.jsonl", "abc.jsonl"),
        ("a::b.jsonl", "b.jsonl"),
        ("100%25.jsonl", "100%.jsonl"),
    ],
)
def test_the_named_file_is_read_and_no_other(named: str, other: str) -> None:
    jsonl(other, [{"text": f"never named {i}"} for i in range(200)])
    jsonl(named, [{"text": f"asked for {i}"} for i in range(200)])
    assert {text[:9] for text in read(named)} == {"asked for"}
    prepared = prepare_set(f"c4={named}#sha256={digest_of(named)}", Bytes(), 10**5)
    assert bytes(prepared.token_ids()[:9].tolist()) == b"asked for"
    assert bytes(prepare(source((named,)), None, Bytes()).tokens("train")[:9].tolist()) == (
        b"asked for"
    )
    Path(other).unlink()
    assert len(read(named)) == 200


def digest_of(name: str) -> str:
    return hashlib.sha256(Path(name).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "name", [".cache/a.jsonl", "__data__/a.jsonl", "Übung.jsonl", "a,b.jsonl", "x@y/a#b.jsonl"]
)
def test_any_name(name: str) -> None:
    assert len(read(jsonl(name, LINES))) == 5


def test_a_record_names_the_file_that_was_given() -> None:
    """Also where the same content was tokenised under another name before."""
    rows = [{"text": f"document {i}"} for i in range(200)]
    for name in ("a.jsonl", "b.jsonl"):
        jsonl(name, rows)
        assert prepare(source((name,)), None, Bytes()).text().source == name
        assert prepare_set(f"c4={name}", Bytes(), 100).evaluation().source == name


def test_a_file_that_changes_while_it_is_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    name = jsonl("a.jsonl", [{"text": f"document {i}"} for i in range(200)])

    def changing(self, _):
        yield {"text": "document 0"}
        jsonl(name, LINES)
        yield {"text": "document 1 falls to the other side"}
        yield from ({"text": f"document {i}"} for i in range(200))

    monkeypatch.setattr(Rows, "read", changing)
    with pytest.raises(UserError, match=r"a.jsonl changed while it was read"):
        prepare_set(f"c4={name}", Bytes(), 10**6)
    jsonl(name, [{"text": "first"}])
    with pytest.raises(UserError, match=r"a.jsonl changed while it was read"):
        prepare(source((name,)), None, Bytes())
    assert list(Path("cache").iterdir()) == []


OTHER_COLUMNS = {
    "a number becomes a string": [{"id": 1}, {"id": "x"}],
    "an object becomes an array": [{"meta": {"a": 1}}, {"meta": [1, 2]}],
    "an object gets a field": [{"meta": {"a": 1}}, {"meta": {"a": 1, "b": {"c": None}}}],
    "null becomes a string": [{"url": None}, {"url": "u"}],
    "a column more": [{}, {"url": "u"}],
    "a column less": [{"url": "u"}, {}],
    "a number of 5000 digits": [{"n": 0}, {"n": "DIGITS"}],
}


@pytest.mark.parametrize("change", OTHER_COLUMNS)
@pytest.mark.parametrize("where", ["another file", "the same file", "after the first chunk"])
def test_only_the_column_that_is_used_is_read(change: str, where: str) -> None:
    first, second = OTHER_COLUMNS[change]
    if where == "another file":
        locations = [jsonl("a.jsonl", [LONG | first]), jsonl("b.jsonl", [LONG | second])]
    else:
        before = 6000 if where == "after the first chunk" else 1
        locations = [jsonl("a.jsonl", [LONG | first] * before + [LONG | second])]
    path = Path(locations[-1])
    path.write_text(path.read_text().replace('"DIGITS"', "9" * 5000))
    texts = read(*locations)
    assert set(texts) == {LONG["text"]}
    assert len(texts) == (6001 if where == "after the first chunk" else 2)


@pytest.mark.parametrize(
    "files",
    [
        [{"text": ["one two"]}, {"text": ["three four"], "url": ["u"]}],
        [{"text": ["one two"], "url": ["u"]}, {"text": ["three four"]}],
        [{"text": ["one two"], "id": [1]}, {"text": ["three four"], "id": ["x"]}],
        [{"text": pa.array(["one two"], pa.large_string())}, {"text": ["three four"]}],
        [{"text": pa.array(["one two"]).dictionary_encode()}, {"text": ["three four"]}],
        [{"meta": [{"a": {"b": 1}}], "text": ["one two"]}, {"meta": [[1]], "text": ["three four"]}],
    ],
)
def test_only_the_column_of_a_parquet_file_that_is_used_is_read(files: list[dict]) -> None:
    names = [parquet(f"{i}.parquet", **columns) for i, columns in enumerate(files)]
    assert read(*names) == ["one two", "three four"]


@pytest.mark.parametrize("text", ["2024-01-01", "2024-01-01T00:00:00", "1", "null", "true"])
def test_text_stays_text(text: str) -> None:
    assert read(jsonl("a.jsonl", [{"text": text}])) == [text]


@pytest.mark.parametrize("hole", [{"text": None}, {"body": "x"}, {}])
@pytest.mark.parametrize("before", [0, 1, 6000])
def test_a_row_without_text_is_left_out_and_counted(hole: dict, before: int) -> None:
    rows = [*[hole | {"pad": LONG["text"]}] * before, *LINES, hole, *LINES]
    files = Files((jsonl("a.jsonl", rows),))
    assert list(files.documents()) == [row["text"] for row in LINES * 2]
    assert files.left_out == before + 1
    assert len(list(files.documents())) == 10
    assert files.left_out == before + 1


def test_half_of_the_rows_lack_the_key_and_the_user_hears_of_it(suites, tmp_path: Path) -> None:
    rows = [{"text": LONG["text"] + str(i)} if i % 2 else {"body": "x"} for i in range(400)]
    jsonl("a.jsonl", rows)
    arguments = ("--profile", "smoke", "--layer", "dense", "--seeds", "1", "--budget", "1e8")
    for _ in range(2):  # the second time from the cache
        done = suites(
            "run", "methods", *arguments, "--data", tmp_path / "a.jsonl", "--results", tmp_path
        )
        assert "200 rows of the text hold none in column 'text' and are left out" in done.stderr


def test_a_parquet_file_with_null_and_missing_columns() -> None:
    names = parquet("a.parquet", text=["one", None, "two"]), parquet("b.parquet", body=["x", "y"])
    files = Files(names)
    assert list(files.documents()) == ["one", "two"]
    assert files.left_out == 3


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("bom.jsonl", b"\xef\xbb\xbf" + b'{"text": "a"}\n', ["a"]),
        ("bom.txt", b"\xef\xbb\xbfone\n\ntwo", ["one", "two"]),
        ("crlf.jsonl", b'{"text": "a"}\r\n\r\n{"text": "b"}\r\n', ["a", "b"]),
        ("crlf.txt", b"one\r\nline\r\n\r\ntwo\r\n", ["one\nline", "two\n"]),
        ("array.json", b'[{"text": "a"}, {"text": "b"}]', ["a", "b"]),
        ("pretty.json", b'[\n {"text": "a"},\n {"text": "b"}\n]\n', ["a", "b"]),
        ("UPPER.TXT", b"one\n\n\ntwo", ["one", "\ntwo"]),
        ("separator.jsonl", '{"text": "a\u2028b\x85c"}\n'.encode(), ["a\u2028b\x85c"]),
        ("feed.txt", "one\x0cstill\u2028one\n\ntwo".encode(), ["one\x0cstill\u2028one", "two"]),
        ("half.jsonl", rb'{"text": "a \ud83d b"}', ["a ? b"]),
        (
            "z.txt.gz",
            gzip.compress(b"one\n\n", mtime=0) + gzip.compress(b"two", mtime=0),
            ["one", "two"],
        ),
        ("z.jsonl.zst", zstd(b'{"text": "a"}\n') * 2, ["a", "a"]),
        ("empty.jsonl", b"", []),
        ("empty.txt", b"", []),
    ],
)
def test_content(name: str, content: bytes, texts: list[str]) -> None:
    Path(name).write_bytes(content)
    assert read(name) == texts


def test_paragraphs_are_those_of_the_whole_file(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a\n\n\nb\n\n\n\nc\nd\n\ne\n"
    Path("a.txt").write_text(text)
    for at_once in (1, 2, 3, 5, 100):
        monkeypatch.setattr("suites.text.files.AT_ONCE", at_once)
        assert read("a.txt") == [part for part in text.split("\n\n") if part]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": 1}\n', "row 1 of a.jsonl holds a float in column 'text'"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ["b"]}\n', "row 2 .* holds a list in column 'text'"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "b\n', "cannot read a.jsonl as json: line 2: Invalid control"),
        ("a.jsonl", b'["a"]\n["b"]\n', "cannot read a.jsonl as json: from line 1 on: Extra data"),
        ("a.jsonl", b'"a"\n', "line 1 holds a str and not an object"),
        ("a.json", b'["a"]', "row 1 holds a str and not an object"),
        ("a.jsonl", b'{"text": null}\n', "no row of a.jsonl holds text in text"),
        ("a.jsonl", b'{"a": 1}\n{"b": 1}\n', "a.jsonl has no column 'text'; it has a, b"),
        ("a.jsonl", '{"text": "é"}'.encode("latin-1"), "cannot read a.jsonl as json: line 1: 'utf-8'"),
        ("a.txt", "é".encode("latin-1"), "cannot read a.txt as text: 'utf-8' codec"),
        ("a.txt", "text".encode("utf-16"), "cannot read a.txt as text: 'utf-8' codec"),
        ("a.jsonl", b'{"text": ' + b"[" * 10**6, "cannot read a.jsonl as json"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n', mtime=0)[:-9], "cannot read a.jsonl.gz as json"),
        ("a.jsonl.gz", b'{"text": "a"}\n', "cannot read a.jsonl.gz as json: zlib inflate failed"),
        ("a.jsonl.zst", b'{"text": "a"}\n', "cannot read a.jsonl.zst as json"),
        ("a.txt.zst", zstd(b"one\n\n" * 10**6)[:-20], "cannot read a.txt.zst as text"),
        ("a.parquet", b"PAR1 no", "cannot read a.parquet as parquet"),
    ],
)  # fmt: skip
def test_content_that_is_refused(name: str, content: bytes, message: str) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(name)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("folder.txt", "folder.txt is not a file; name the files of a folder one by one"),
        ("none/a.txt", "no such file: none/a.txt"),
        ("a.txt/b.txt", "no such file: a.txt/b.txt"),
        ("~nobody-of-that-name/a.txt", "names no place"),
        ("x" * 300 + ".txt", "cannot use .*: File name too long"),
        ("a\0b.txt", "names no place: embedded null byte"),
    ],
)
def test_places_that_are_no_files(location: str, message: str) -> None:
    Path("folder.txt").mkdir()
    Path("a.txt").write_text("text")
    with pytest.raises(UserError, match=message):
        Files((location,))
    with pytest.raises(UserError, match=message):
        prepare_set(f"c4={location}", Bytes(), 99)


def test_a_file_of_another_user_is_refused_with_the_cause(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(open_folder)
    Path("a.jsonl").write_text('{"text": "a"}')
    Path("a.jsonl").chmod(0)
    Path("closed").mkdir(mode=0)
    program = (
        "import hashlib, os, suites.text.corpus\n"
        "from suites.text.evaluations import prepare_set\n"
        "from suites.text.sources import Files\n"
        "from suites.text.tokenizer import Bytes\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "for name in ('a.jsonl', 'closed/a.jsonl'):\n"
        "    for act in (lambda: Files((name,)), lambda: prepare_set('c4=' + name, Bytes(), 9)):\n"
        "        try: act()\n"
        "        except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["UserError"] * 4, done
    assert all("Permission denied" in line for line in lines)


@pytest.mark.parametrize("spelling", ["~/a.jsonl", "./a.jsonl", "../{}/a.jsonl"])
def test_a_home_and_relative_places(spelling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    jsonl("a.jsonl", [{"text": f"document {i}"} for i in range(200)])
    monkeypatch.setenv("HOME", str(Path.cwd()))
    location = spelling.format(Path.cwd().name)
    assert len(read(location)) == 200
    assert prepare_set(f"c4={location}", Bytes(), 99).source == "a.jsonl"


def test_a_home_that_cannot_be_written() -> None:
    parquet("a.parquet", text=["one two"])
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "XDG_"))}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from suites.text.sources import Files; print(*Files(('a.parquet',)).documents())",
        ],
        env=environment | {"HOME": "/dev/null", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "one two\n", done.stderr


class Hub:
    """Stands for the hub: files by their name."""

    files: dict[str, bytes] = {}

    def open(self, name: str, mode: str) -> io.BytesIO:
        if name not in self.files:
            raise FileNotFoundError(name)
        return io.BytesIO(self.files[name])


REVISION = "hf://datasets/o/n@" + "a" * 40


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[Hub]:
    monkeypatch.setattr("huggingface_hub.HfFileSystem", Hub)
    monkeypatch.setattr(Hub, "files", {})
    return Hub


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_a_hub_file_is_read_like_a_local_one(suffix: str, hub: type[Hub]) -> None:
    location = f"{REVISION}/part[1]{suffix}"
    assert HUB.fullmatch(location)
    rows = [{"text": "one", "id": 1}, {"text": None, "id": None}, {"text": "two", "id": "x"}]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if suffix == ".parquet":
        content = Path(parquet("a.parquet", text=["one", None, "two"])).read_bytes()
    hub.files[location] = gzip.compress(content, mtime=0) if suffix.endswith("gz") else content
    assert read(location) == ["one", "two"]
    assert prepare_set(f"c4={location}", Bytes(), 99).left_out == 1


def test_a_hub_file_that_cannot_be_had_is_a_gap_and_a_wrong_one_an_error(hub: type[Hub]) -> None:
    location = f"{REVISION}/a.jsonl"
    with pytest.raises(Gap, match="cannot read"):
        prepare_set(f"c4={location}", Bytes(), 99)
    hub.files[location] = b'{"text": "one two"}\n'
    with pytest.raises(UserError, match="has sha256 .*, stated is 00") as raised:
        prepare_set(f"c4={location}#sha256=00", Bytes(), 99)
    assert not isinstance(raised.value, Gap)
    Path("a.jsonl").write_bytes(hub.files[location])
    given = f"c4={location}#sha256={digest_of('a.jsonl')}"
    assert prepare_set(given, Bytes(), 99).documents == 1


def test_the_pinned_checksum_holds_for_the_hub_too(hub: type[Hub]) -> None:
    from suites.text.evaluations import SETS

    hub.files[str(SETS["lambada"].location)] = b'{"text": "one two"}\n'
    with pytest.raises(UserError, match="that of the pinned lambada is 4aa8d02c"):
        prepare_set("lambada", Bytes(), 99)


def test_identity_is_of_contents_in_their_order() -> None:
    jsonl("a.jsonl", LINES)
    jsonl("b.jsonl", LINES[:2])
    both = Files(("a.jsonl", "b.jsonl")).identity()
    assert both == Files(("./a.jsonl", str(Path("b.jsonl").absolute()))).identity()
    assert both != Files(("b.jsonl", "a.jsonl")).identity()
    assert digest_files([Path("a.jsonl")]) in both
    with pytest.raises(Unreadable):
        list(Rows(("none.jsonl",)))
