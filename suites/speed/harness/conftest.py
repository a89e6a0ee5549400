"""The speed suites under pytest-benchmark: `pytest suites/speed/harness --benchmark-only -k EXPR`."""

from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tqdm import tqdm

from suites.errors import UserError
from suites.measure.lock import measuring
from suites.registry import SPEED_SUITES, load
from suites.speed.cells.case import Cell
from suites.speed.harness.bench import Bench, require
from suites.speed.harness.command import WRITTEN

BAR = pytest.StashKey[tqdm]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("speed suites")
    group.addoption("--profile", default="tiny", help="tiny (a CPU) or small (one GPU)")
    group.addoption("--results", type=Path, help="folder of results; default: results/")
    group.addoption("--resume", action="store_true", help="keep cells that this code has finished")
    group.addoption(
        "--ids", type=Path, help="recorded routing for experts_speed: .npy (tokens, h·k)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuses xdist, whose processes would time each other."""
    if getattr(config.option, "dist", "no") != "no":
        raise pytest.UsageError(
            "speed suites time one cell after another on a machine of their own; run without -n"
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cell" in metafunc.fixturenames:
        cells = selected(metafunc.config.option.profile, metafunc.config.option.ids)
        metafunc.parametrize("cell", cells, ids=[cell.name for cell in cells])


def selected(profile: str, ids: Path | None) -> list[Cell]:
    """All suites' cells of `profile`, and those with recorded ids when a file is given."""
    cells: list[Cell] = []
    for suite in SPEED_SUITES:
        profiles = load(suite).PROFILES
        if profile not in profiles:
            raise pytest.UsageError(f"no profile {profile!r}; there are {', '.join(profiles)}")
        cells += profiles[profile]
    if ids is not None:
        try:
            cells += load("experts_speed").recorded(cells, ids)
        except UserError as error:
            raise pytest.UsageError(str(error)) from error
    return cells


def cell_of(item: pytest.Item) -> Cell | None:
    parameters = getattr(item, "callspec", None)
    return parameters.params.get("cell") if parameters else None


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    """Keeps the controls of every suite that is selected from: copy, GEMM and the A/A pair."""
    offered = list(items)
    yield
    chosen = {id(item) for item in items}
    suites = {cell.suite for item in items if (cell := cell_of(item))}
    repeated = {
        cell.row.removesuffix("-again") + cell.group
        for item in offered
        if (cell := cell_of(item)) and cell.repeat
    }
    items[:] = [
        item
        for item in offered
        if id(item) in chosen
        or (
            (cell := cell_of(item)) is not None
            and cell.suite in suites
            and (cell.is_control or cell.row.removesuffix("-again") + cell.group in repeated)
        )
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Refuses before the first cell, no device or another run on it; shows the progress."""
    cells = [cell for item in session.items if (cell := cell_of(item))]
    with ExitStack() as held:
        if cells and not session.config.option.collectonly:
            try:
                require(cells[0].device)
                held.enter_context(measuring(cells[0].device))
            except UserError as error:
                pytest.exit(str(error), returncode=2)
        hidden = True if session.config.option.collectonly else None  # None: off a terminal
        bar = held.enter_context(tqdm(total=len(cells), unit="cell", disable=hidden))
        session.config.stash[BAR] = bar
        return (yield)


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Bench:
    options = request.config.option
    cells = [cell for item in request.session.items if (cell := cell_of(item))]
    try:
        bench = Bench(options.profile, cells[0].device, options.resume, options.results)
    except UserError as error:
        pytest.exit(str(error), returncode=2)
    if cells[0].device == "cuda":
        bench.prewarm(cells)
    request.config.stash[WRITTEN] = bench.written
    return bench


@pytest.fixture(scope="session")
def controls(request: pytest.FixtureRequest) -> dict[str, list[Cell]]:
    """Per suite, the cells that measure the roof."""
    cells = [cell for item in request.session.items if (cell := cell_of(item))]
    return {c.suite: [o for o in cells if o.suite == c.suite and o.is_control] for c in cells}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Moves the bar between cells, never inside one."""
    bar = item.config.stash[BAR]
    if cell := cell_of(item):
        bar.set_description_str(cell.name)
    result = yield
    bar.update()
    return result


def pytest_report_teststatus(
    report: pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """The bar takes the place of the dots."""
    if (
        report.when == "call"
        and report.passed
        and BAR in config.stash
        and not config.stash[BAR].disable
    ):
        return "passed", "", ""
    return None


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict) -> None:
    """GPU, driver and versions, as our records state them."""
    from suites.measure.environment import environment

    machine_info["environment"] = environment().model_dump(mode="json")
