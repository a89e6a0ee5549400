"""Files that are damaged, edited, misplaced or written at the same time; crashes and full disks."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import jsonschema
import pytest

from suites.errors import UserError
from suites.records import schema, store
from suites.records.record import Code, Record, digest
from suites.records.store import Store, publish, read, write, write_text
from tests.lab import environment, methods, result_file, training

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "c" * 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "result.json"
    write(path, result_file(COMMIT))
    return path


def edit(path: Path, *, reseal: bool = False, **changes) -> None:
    body = json.loads(path.read_text()) | changes
    if reseal:
        del body["sha256"]
        body["sha256"] = digest(body)
    path.write_text(json.dumps(body))


def test_round_trip(path: Path) -> None:
    assert read(path) == result_file(COMMIT)


def test_every_result_of_the_repository_is_valid() -> None:
    shipped = Store(ROOT / "results")
    files = [file for kind in ("records", "published") for _, file in shipped.files(kind)]
    assert {file.suite for file in files} >= {"table1", "table2"}
    schema_v1 = json.loads((ROOT / "results" / schema.FILE).read_text())
    for kind in ("records", "published"):
        for path, _ in shipped.files(kind):
            jsonschema.validate(json.loads(path.read_text()), schema_v1)


def test_schema_is_in_step() -> None:
    committed = (ROOT / "results" / schema.FILE).read_text()
    assert committed == schema.schema_text(), "run: python -m suites tables"


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_truncated(path: Path, share: float) -> None:
    text = path.read_text().strip()
    path.write_text(text[: int(len(text) * share)])
    with pytest.raises(UserError, match="is not a whole JSON file"):
        read(path)


def test_edited_by_hand(path: Path) -> None:
    path.write_text(path.read_text().replace("1.7", "1.6", 1))
    with pytest.raises(UserError, match="does not match its checksum"):
        read(path)


def test_another_schema(path: Path) -> None:
    edit(path, reseal=True, schema_version=99)
    with pytest.raises(UserError, match="has schema version 99; this suite reads 1"):
        read(path)


def test_older_schemas_are_upgraded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(store.UPGRADES, -1, lambda body: body | {"schema_version": 0})
    monkeypatch.setitem(
        store.UPGRADES, 0, lambda body: body | {"schema_version": 1, "suite": body["suite"].lower()}
    )
    edit(path, reseal=True, schema_version=-1, suite="METHODS")
    assert read(path) == result_file(COMMIT)


def test_duplicate_cells(path: Path) -> None:
    records = json.loads(path.read_text())["records"]
    edit(path, reseal=True, records=[*records, records[0]])
    with pytest.raises(UserError, match="two records of one file describe the same case"):
        read(path)


@pytest.mark.parametrize("body", ["[]", "3", '"text"'])
def test_not_a_result(path: Path, body: str) -> None:
    path.write_text(body)
    with pytest.raises(UserError, match="and not a result file"):
        read(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read(tmp_path / "none.json")


def test_misplaced_record(tmp_path: Path) -> None:
    results = Store(tmp_path)
    write(tmp_path / "records" / "methods-tiny" / "copy.json", result_file(COMMIT))
    with pytest.raises(UserError, match="holds what belongs in"):
        list(results.files("records"))


def test_dirty_record(tmp_path: Path) -> None:
    dirty = result_file(COMMIT, code=Code(commit=COMMIT, dirty=True, sha256="0" * 64))
    write(Store(tmp_path).published_path(dirty), dirty)
    with pytest.raises(UserError, match="is not of a clean commit"):
        list(Store(tmp_path).files("records"))


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_full_disk_changes_nothing(
    path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = path.read_text()
    if broken == "write":
        monkeypatch.setattr(store.os, "fdopen", full)
    else:
        monkeypatch.setattr(store.os, broken, full)
    with pytest.raises(UserError, match="No space left on device; nothing was changed"):
        write(path, result_file(COMMIT, methods(0.1)))
    monkeypatch.undo()
    assert path.read_text() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_write_that_ends_half_way_changes_nothing(path: Path) -> None:
    """A limit on file size stands for the disk that fills up while a file is written."""
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from suites.records.store import write_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_text(Path(sys.argv[1]), 'x' * 5000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True
    )
    assert "File too large; nothing was changed" in done.stderr
    assert read(path) == result_file(COMMIT)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_folder_that_is_a_file(path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        write_text(path / "result.json", "text")


def test_killed_writers_leave_a_whole_file(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from suites.records.store import read, write\n"
        "path = Path(sys.argv[1]); results = read(path)\n"
        "print('ready', flush=True)\n"
        "while True: write(path, results)\n"
    )
    for pause in (0.005, 0.013, 0.021, 0.034):
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(path)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(pause)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert read(path) == result_file(COMMIT)


def rewrite(path: Path, shift: float) -> None:
    for _ in range(20):
        write(path, result_file(COMMIT, methods(shift)))


def test_concurrent_writers(path: Path) -> None:
    processes = [
        get_context("fork").Process(target=rewrite, args=(path, shift)) for shift in (0.1, 0.2)
    ]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        read(path)
    assert [process.exitcode for process in processes] == [0, 0]
    assert read(path).records in (methods(0.1), methods(0.2))


def single(record: Record, **changes):
    return result_file(COMMIT, [record], **changes)


def test_publish(tmp_path: Path) -> None:
    files = [single(record) for record in methods()]
    wanted = [record.case_id for record in methods()]
    path = publish(Store(tmp_path), files, wanted)
    assert read(path).records == methods()
    assert publish(Store(tmp_path), files, wanted) == path
    changed = [single(record) for record in methods(0.1)]
    with pytest.raises(UserError, match="never replaced silently"):
        publish(Store(tmp_path), changed, wanted)
    assert read(path).records == methods()


def test_a_record_grows_by_what_the_same_code_adds(tmp_path: Path) -> None:
    """Budgets of one profile are run, and published, one after another."""
    first, later = methods(), [training("moe", seed, 1.0) for seed in range(2)]
    store = Store(tmp_path)
    path = publish(store, [single(r) for r in first], [r.case_id for r in first])
    assert publish(store, [single(r) for r in later], [r.case_id for r in later]) == path
    assert read(path).records == [*first, *later]
    mixed = [*later, training("moe", 2, 1.5), training("dense", 0, 9.0)]
    with pytest.raises(UserError, match="holds other numbers"):
        publish(store, [single(r) for r in mixed], [r.case_id for r in mixed])
    elsewhere = [single(training("moe", 3, 1.0), environment=environment(cpu="another"))]
    assert publish(store, elsewhere, [elsewhere[0].records[0].case_id]) != path
    assert read(path).records == [*first, *later]


def test_publish_says_what_is_missing(tmp_path: Path) -> None:
    files = [single(record) for record in methods()]
    wanted = [*(record.case_id for record in methods()), training("moe", 0, 1.0).case_id]
    with pytest.raises(UserError, match="1 of 7 cases have no record"):
        publish(Store(tmp_path), files, wanted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code": Code(commit=COMMIT, dirty=True, sha256="0" * 64)}, "one clean commit"),
        ({"code": Code(commit="d" * 40, dirty=False, sha256="0" * 64)}, "one clean commit"),
        ({"code": Code(commit=None, dirty=True, sha256="0" * 64)}, "one clean commit"),
        ({"environment": environment(cpu="another")}, "several machines or versions"),
    ],
)
def test_publish_refuses_mixtures(tmp_path: Path, changes: dict, message: str) -> None:
    first, *rest = methods()
    files = [single(record) for record in rest] + [single(first, **changes)]
    with pytest.raises(UserError, match=message):
        publish(Store(tmp_path), files, [record.case_id for record in methods()])
    assert not (tmp_path / "records").exists()
