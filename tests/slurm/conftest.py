"""A cluster for all tests of this folder, and the profile of the long one."""

from collections.abc import Iterator

import pytest

from tests.slurm.cluster import Cluster, why_not


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--profile", default="smoke", help="of the isoFLOP sweep that is disturbed")


@pytest.fixture(scope="session")
def profile(request: pytest.FixtureRequest) -> str:
    return request.config.getoption("--profile")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := why_not():
        pytest.skip(reason)
    made = Cluster(tmp_path_factory.mktemp("slurm"))
    yield made
    made.stop()
