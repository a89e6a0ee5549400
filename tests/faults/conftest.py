"""A checkout whose commit is clean, so that its runs can be published, and how often it is disturbed."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("peer", "baselines", "suites")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=100, help="how many, at random moments")
    parser.addoption("--moments", type=int, default=0, help="seed of the moments")


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--kills")


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--moments")


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources as they lie here, committed."""
    root = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".gitignore").write_text("__pycache__/\n")
    shutil.copy(ROOT / "CITATION.cff", root)
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "--quiet"], ["add", "--all"], [*who, "commit", "--quiet", "-m", "here"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    return root
