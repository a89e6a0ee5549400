"""A visit to a GPU, rehearsed: order, time, what is kept, and what goes along."""

import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from suites.errors import UserError
from suites.gpu import visit as visit_module
from suites.gpu import wheels
from suites.gpu.tasks import (
    SANITIZED,
    SANITIZED_FILES,
    SPEED_SUITES,
    Task,
    file,
    rehearsal,
    tasks,
)
from suites.gpu.visit import SHARES, ends_at_s, outcomes, visit
from suites.records.commits import Repository
from suites.registry import load
from suites.verbs import gpu

ROOT = Path(__file__).resolve().parents[2]


def program(stage: str, name: str, text: str, **options) -> Task:
    return Task(stage, name, (sys.executable, "-c", text), least_s=0.0, **options)


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit_module, "GRACE_S", 1.0)


def went(planned: list[Task], folder: Path, seconds: float = 60.0) -> dict[str, str]:
    found = visit(planned, folder, time.monotonic() + seconds, lambda line: None)
    return {key: outcome.status for key, outcome in found.items()}


def test_what_finished_is_not_run_again(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    once = f"open({str(mark)!r}, 'x').write('x')"  # a second run would fail
    planned = [
        program("tests", "once", once),
        program("tests", "broken", "raise SystemExit('no luck')"),
        program("sanitizer", "away", "", lacks=lambda: "it is not installed"),
    ]
    wanted = {"tests-once": "done", "tests-broken": "failed", "sanitizer-away": "skipped"}
    folder = tmp_path / "visit"
    assert went(planned, folder) == wanted
    assert outcomes(folder)["tests-broken"].reason == "exit status 1: no luck"
    assert outcomes(folder)["sanitizer-away"].reason == "it is not installed"
    planned[2] = program("sanitizer", "away", "")
    assert went(planned, folder) == wanted | {"sanitizer-away": "done"}


def test_a_task_is_stopped_and_goes_on(tmp_path: Path) -> None:
    """The first call interrupts it, and it keeps what it has; the second lets it end."""
    text = (
        "import pathlib, sys, time\n"
        f"mark = pathlib.Path({str(tmp_path / 'mark')!r})\n"
        "if mark.exists(): sys.exit()\n"
        "try: time.sleep(60)\n"
        "except KeyboardInterrupt: mark.touch()\n"
    )
    planned = [program("training", "long", text), program("training", "late", "")]
    began = time.monotonic()
    # Python takes seconds to start beside other work, and must be asleep by then.
    found = visit(planned, tmp_path / "visit", began + 8.0, lambda line: None)
    assert time.monotonic() - began < 10.0
    assert found["training-long"].status == "stopped"
    assert (tmp_path / "mark").exists()
    assert went(planned, tmp_path / "visit") == {"training-long": "done", "training-late": "done"}


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    text = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    began = time.monotonic()
    assert went([program("training", "deaf", text)], tmp_path, 2.5) == {"training-deaf": "stopped"}
    assert time.monotonic() - began < 5.0


def test_what_has_no_time_left_says_so(tmp_path: Path) -> None:
    planned = [Task("tests", "long", (sys.executable,), least_s=600.0)]
    found = visit(planned, tmp_path, time.monotonic() + 60, lambda line: None)
    assert found["tests-long"].status == "skipped"
    assert "s are left, and it wants 600" in found["tests-long"].reason


def test_shares_leave_something_for_everyone() -> None:
    ends = [ends_at_s(stage, 1800.0) for stage in SHARES]
    assert ends == sorted(ends)
    assert ends[-1] == 1800.0


def test_tasks_name_what_there_is() -> None:
    for planned in (list(tasks(None)), list(rehearsal(None))):
        assert [*dict.fromkeys(task.stage for task in planned)] == list(SHARES)
        assert len({task.key for task in planned}) == len(planned)
        for task in planned:
            for word in task.command:
                assert not word.startswith("tests/") or (ROOT / word).exists()
    for suite in (*SPEED_SUITES, "methods"):
        assert "small" in load(suite).PROFILES


@pytest.mark.slow
def test_the_sanitizer_sees_one_shape_of_each_operation() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-k", SANITIZED]
    done = subprocess.run(
        [*command, *map(file, SANITIZED_FILES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = [line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line]
    assert found == [file(name) for name in SANITIZED_FILES]


@pytest.mark.slow
def test_a_rehearsal_from_end_to_end(suites, tmp_path: Path) -> None:
    call = ("gpu", "--rehearse", "--minutes", "4", "--results", tmp_path / "results")
    own = {"TMPDIR": str(tmp_path), "PYTEST_ADDOPTS": "-p tests.speed.undisturbed"}
    done = suites(*call, environment=own)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "results" / "scratch" / "gpu-rehearsal").glob("*-*/")
    found = {key: outcome.status for key, outcome in outcomes(folder).items()}
    assert found.pop("sanitizer-memcheck") in ("skipped", "done")
    assert set(found.values()) == {"done"}
    assert "1 passed" in (folder / "tests-retrieve.log").read_text()
    assert "no table was written" in (folder / "tune-tiles.log").read_text()
    with tarfile.open(folder.with_suffix(".tar.gz")) as tar:
        names = tar.getnames()
    assert any(name.startswith("tiles-rehearsal/") for name in names)
    assert any(name.startswith("decode_speed-tiny/") for name in names)
    assert any(name.startswith("runs/") for name in names)
    before = outcomes(folder)
    assert suites(*call, environment=own).returncode == 0
    assert outcomes(folder) == before  # with the seconds of the first call


def test_without_a_gpu_it_says_what_can_be_done(suites) -> None:
    done = suites("gpu")
    assert done.returncode == 2
    assert "--rehearse goes through the stages on a CPU, and --wheels DIR" in done.stderr


def test_wheels_of_all_but_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def call(command, **_):
        calls.append(command)
        return type("Done", (), {"returncode": len(calls) - 1})

    monkeypatch.setattr(wheels.subprocess, "run", call)
    monkeypatch.setattr(wheels, "distribution", Installed)
    assert "--no-index" in wheels.collect(tmp_path, "3.12")
    listed = (tmp_path / "requirements.txt").read_text().split()
    assert listed == [
        "annotated-types==1.0",
        "hatchling==1.0",
        "hypothesis==1.0",
        "jsonschema==1.0",
        "pydantic==1.0",
        "pytest-xdist==1.0",
        "absent",
    ]
    assert "--no-deps" in calls[0]
    assert "3.12" in calls[0]
    with pytest.raises(UserError, match="pip could not have all that .*requirements.txt names"):
        wheels.collect(tmp_path, "3.12")


class Installed:
    """A distribution of an invented environment."""

    version = "1.0"
    ASKED = {
        "peer-suite": [
            "torch>=2.11",
            "peer-suite[native]; extra == 'suites'",
            "pydantic>=2; extra == 'suites'",
            "absent; extra == 'rivals'",
            "numba; extra == 'native' and python_version < '3.12'",
        ],
        "pydantic": ["annotated-types>=0.6", "email-validator; extra == 'email'"],
    }

    def __init__(self, name: str) -> None:
        if name == "absent":
            raise wheels.PackageNotFoundError(name)
        self.requires = self.ASKED.get(name)


def test_the_tuners_table_is_committed(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    table = tmp_path / "peer" / "kernels" / "tuned.csv"
    table.parent.mkdir(parents=True)
    table.write_text("a\n")
    own = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    repository.change("init", "--quiet")
    repository.change("add", ".")
    repository.change(*own, "commit", "--quiet", "--message", "first")
    before = repository.head()
    gpu.commit_table(repository)
    assert repository.head() == before
    table.write_text("b\n")
    gpu.commit_table(repository)
    assert repository.head() != before
    assert repository.changes() == ""
