"""What CI installs is locked by hash, and the lock is of what the project asks for."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GROUPS = PROJECT["dependency-groups"]
EXTRAS = PROJECT["project"]["optional-dependencies"]
ALL = [
    *PROJECT["project"]["dependencies"], *EXTRAS["suites"], *EXTRAS["rivals"], *EXTRAS["native"],
    *(one for name in ("ci", "test", "lint", "types", "hub", "docs", "torch") for one in GROUPS[name]),
]  # fmt: skip


def locked(name: str) -> dict[str, list[Requirement]]:
    """Package → its pinned versions, of which markers choose one; fails where one has no hash."""
    found: dict[str, list[Requirement]] = {}
    text = (ROOT / ".ci" / "locked" / f"{name}.txt").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        stated, *hashes = line.split("--hash=")
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", one) for one in hashes), stated
        requirement = Requirement(stated)
        found.setdefault(requirement.name.lower().replace("_", "-"), []).append(requirement)
    return found


@pytest.mark.parametrize(("name", "wanted"), [("nox", GROUPS["ci"]), ("all", ALL)])
def test_the_lock_holds_what_the_project_asks_for(name: str, wanted: list[str]) -> None:
    pins = locked(name)
    linux = default_environment() | {"sys_platform": "linux", "platform_system": "Linux"}
    for requirement in map(Requirement, wanted):
        if requirement.name in ("peer-suite", "torch"):
            continue  # ourselves, and what constraints-cpu.txt pins
        chosen = [
            pin
            for pin in pins[requirement.name.lower().replace("_", "-")]
            if pin.marker is None or pin.marker.evaluate(linux)
        ]
        assert len(chosen) == 1, requirement
        (version,) = (one.version for one in chosen[0].specifier)
        assert requirement.specifier.contains(version), f"{requirement}: nox -s lock"


def test_ci_starts_from_the_lock() -> None:
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    for path in (ROOT / ".ci" / "run", *workflows):
        for line in path.read_text().splitlines():
            if "pip install" in line:
                assert "--require-hashes" in line or "--no-deps" in line, f"{path.name}: {line}"
