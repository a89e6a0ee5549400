"""What goes along to a machine without network: wheels of all that the suite needs, torch aside.

A rented GPU has torch and its triton. The rest is what the project asks for and what that asks for in
turn, in the versions installed here, as wheels for the other machine.
"""

import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from suites.errors import UserError
from suites.records.store import write_text

OWN = "peer-suite"
EXTRAS = ("suites", "native", "gpu", "rivals")
# Of the project's tests, which an installation does not ask for.
TESTS = ("hatchling", "hypothesis", "jsonschema", "pytest-xdist")
THERE = ("torch", "triton")  # with all that they ask for


def wanted(version: str) -> tuple[dict[str, str], list[str]]:
    """Versions by distribution of what Python `version` asks for, and those that are not installed here."""
    try:
        asked = distribution(OWN).requires or []
    except PackageNotFoundError:
        raise UserError(
            f"{OWN} is not installed here, so what it needs is not known; "
            "pip install --editable '.[suites]'"
        ) from None
    found: dict[str, str] = {}
    missing: list[str] = []
    waiting = [*TESTS]
    for extra in ("", *EXTRAS):
        waiting += names(asked, extra, version)
    while waiting:
        name = waiting.pop()
        if name in found or name in missing or name in (*THERE, OWN):
            continue
        try:
            there = distribution(name)
        except PackageNotFoundError:
            missing.append(name)
            continue
        found[name] = there.version
        waiting += names(there.requires or [], "", version)
    return found, missing


def names(requirements: Iterable[str], extra: str, version: str) -> list[str]:
    """Those that hold for `extra` and Python `version`, on a system like this."""
    parsed = [Requirement(text) for text in requirements]
    where = {"extra": extra, "python_version": version, "python_full_version": f"{version}.0"}
    return [
        canonicalize_name(one.name)
        for one in parsed
        if one.marker is None or one.marker.evaluate(where)
    ]


def collect(folder: Path, version: str) -> str:
    """Downloads wheels for Python `version` on Linux x86-64, and returns how to install them there.

    Raises UserError where pip cannot have them.
    """
    found, missing = wanted(version)
    lines = [f"{name}=={release}" for name, release in sorted(found.items())] + sorted(missing)
    listed = folder / "requirements.txt"
    write_text(listed, "\n".join(lines) + "\n")
    platforms = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--python-version", version]
    command += [word for name in platforms for word in ("--platform", name)]
    done = subprocess.run([*command, "--dest", folder, "--requirement", listed])
    if done.returncode:
        raise UserError(f"pip could not have all that {listed} names; its words are above")
    return (
        "there: pip install --no-index --no-deps --find-links DIR --requirement DIR/requirements.txt "
        "&& pip install --no-index --no-deps --no-build-isolation --editable ."
    )
