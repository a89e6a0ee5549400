"""The `run` verb of a speed suite: pytest-benchmark over its cells, then their table."""

import contextlib
import io
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from tabulate import tabulate

from suites.errors import UserError
from suites.output import say
from suites.records.places import PLACE
from suites.records.record import ResultFile, digest
from suites.records.store import read
from suites.registry import SPEED_SUITES, profile_of
from suites.speed.cells.case import Cell
from suites.speed.harness.estimate import estimate

HERE = Path(__file__).parent
# Where the run leaves the paths of its records for whoever started it.
WRITTEN = pytest.StashKey[list[Path]]()


class Listener:
    """Sees which cells pytest selected, why it stopped early, and what broke in the harness itself."""

    def __init__(self) -> None:
        self.cells: list[Cell] = []
        self.written: list[Path] = []
        self.stopped_by: BaseException | None = None
        self.broke: BaseException | None = None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.cells = [item.callspec.params["cell"] for item in session.items]  # type: ignore[attr-defined]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.written = session.config.stash.get(WRITTEN, [])

    def pytest_exception_interact(self, call: pytest.CallInfo[Any]) -> None:
        """A cell that fails is a record and a `pytest.fail`; whatever else is raised is not its doing."""
        if call.excinfo is not None and not call.excinfo.errisinstance(pytest.fail.Exception):
            self.broke = self.broke or call.excinfo.value

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self.broke = self.broke or excinfo.value

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self.stopped_by = excinfo.value


def speed_command(
    suite: str, card: str | None, profiles: Mapping[str, tuple[Cell, ...]]
) -> click.Command:
    """`profiles` are the suite's cells by profile; `card` is its module's docstring."""

    @click.command(name=suite, help=card)
    @click.option(
        "--profile", default="tiny", show_default=True, help=f"one of {', '.join(profiles)}"
    )
    @click.option("-k", "expression", metavar="EXPR", help="cells by name, as in pytest -k")
    @click.option("--dry-run", is_flag=True, help="list cells with estimated memory and time")
    @click.option("--ids", type=PLACE, help="recorded routing, a .npy file")
    @click.option("--wide", is_flag=True, help="print all columns of the tables")
    @click.option("--results", type=PLACE, help="folder of results; default: results/")
    def command(
        profile: str,
        expression: str | None,
        dry_run: bool,
        ids: Path | None,
        wide: bool,
        results: Path | None,
    ) -> int:
        cells = profile_of(suite, profiles, profile)
        arguments = [str(HERE), "--profile", profile, "--benchmark-only", "--benchmark-quiet"]
        wanted = [suite] if suite in SPEED_SUITES else []  # else the suite of all suites
        wanted += [f"({expression})"] if expression else []
        arguments += ["-k", " and ".join(wanted)] if wanted else []
        arguments += ["--ids", str(ids)] if ids else []
        if dry_run:
            with contextlib.redirect_stdout(io.StringIO()):
                listener = pytest_run([*arguments, "--collect-only"])
            require_cells(listener, suite, expression)
            say(plan(listener.cells))
            return 0
        from suites.speed.harness.bench import require

        require(cells[0].device)
        arguments += ["--results", str(results)] if results else []
        quiet = ["-q", "--no-header", "--show-capture=no", "--disable-warnings"]
        quiet += ["-o", "console_output_style=classic"]
        listener = pytest_run([*arguments, "--resume", *quiet])
        return ended(listener, suite, expression, wide)

    return command


def planner(
    profiles: Mapping[str, tuple[Cell, ...]],
) -> Callable[[str, list[ResultFile]], list[str]]:
    """What `publish` asks a suite: the case ids of a complete run."""

    def planned(profile: str, files: list[ResultFile]) -> list[str]:
        """The profile's cells, and those with recorded routing where the run has any."""
        if profile not in profiles:
            raise UserError(f"no profile {profile!r}; there are {', '.join(profiles)}")
        ids = [digest(cell.model_dump(mode="json")) for cell in profiles[profile]]
        records = [record for file in files for record in file.records]
        return ids + [r.case_id for r in records if r.case["routing"] == "recorded"]

    return planned


def ended(listener: Listener, suite: str, expression: str | None, wide: bool) -> int:
    """Tables of what was measured, and the exit status; raises what broke the run or interrupted it."""
    if isinstance(listener.stopped_by, KeyboardInterrupt):
        raise listener.stopped_by
    if listener.broke is not None:
        raise listener.broke
    require_cells(listener, suite, expression)
    if listener.stopped_by is not None:
        raise UserError(str(listener.stopped_by))
    found = {report(paths, wide) for paths in by_folder(listener.written)}
    return 1 if 1 in found else max(found)


def pytest_run(arguments: list[str]) -> Listener:
    listener = Listener()
    # Where hypothesis is installed, importing its plugin takes longer than a few cells.
    status = pytest.main([*arguments, "-p", "no:hypothesispytest"], plugins=[listener])
    if status == pytest.ExitCode.USAGE_ERROR:
        raise UserError("nothing was run; pytest's message is above")
    return listener


def require_cells(listener: Listener, suite: str, expression: str | None) -> None:
    if not listener.cells:
        raise UserError(
            f"no cell of {suite} matches -k {expression!r}; "
            f"see their names with: python -m suites run {suite} --dry-run"
        )


def plan(cells: list[Cell]) -> str:
    """What --dry-run prints."""
    estimates = [estimate(cell) for cell in cells]
    rows = [
        (cell.name, f"{e.bytes / 2**20:,.0f}", f"{e.seconds:.1f}")
        for cell, e in zip(cells, estimates, strict=True)
    ]
    table = tabulate(
        rows, headers=("cell", "at least MiB", "about s"), colalign=("left", "right", "right")
    )
    total_s = sum(e.seconds for e in estimates)
    largest = max(e.bytes for e in estimates)
    return f"{table}\n{len(cells)} cells, about {total_s:.0f} s, largest {largest / 2**30:.2f} GiB"


def by_folder(paths: list[Path]) -> list[list[Path]]:
    """One list per suite, in the order of the run."""
    folders = dict.fromkeys(path.parent for path in paths)
    return [[path for path in paths if path.parent == folder] for folder in folders]


def report(paths: list[Path], wide: bool) -> int:
    """Prints and writes the table of the records at `paths`; 1 when one of them failed, 3 when only
    the conditions of one were not its own.
    """
    from suites.figures import FIGURES, save
    from suites.tables import TABLES

    files: list[ResultFile] = [read(path) for path in paths]
    folder, suite = paths[0].parent, files[0].suite
    (sheet,) = TABLES[suite](files)
    sheet.write(folder)
    for name, figure in FIGURES[suite](files).items():
        save(figure, folder / name)
    say(sheet.printed(wide), **sheet.data())
    statuses = Counter(record.status for file in files for record in file.records)
    listed = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    say(
        f"{listed}; records, table.md, table.csv and figures are in {folder}",
        wrote=str(folder),
        statuses=dict(statuses),
    )
    return 1 if statuses["error"] else 3 if statuses["invalid"] else 0
