"""What is built: a wheel that holds the layer alone, and a source distribution that holds everything."""

import json
import re
import subprocess
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml
from hatchling import build
from packaging.requirements import Requirement

import peer

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> zipfile.ZipFile:
    monkeypatch.chdir(ROOT)
    return zipfile.ZipFile(tmp_path / build.build_wheel(str(tmp_path)))


def test_the_wheel_holds_the_layer_alone(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    folder = f"peer_suite-{peer.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"peer", folder}
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "peer").rglob("*.py")}
    assert there | {"peer/py.typed", "peer/measured.csv"} <= names


def test_the_layer_needs_torch_and_numpy_alone(wheel: zipfile.ZipFile) -> None:
    (metadata,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    said = message_from_bytes(wheel.read(metadata))
    assert said["Version"] == peer.__version__
    needed = map(Requirement, said.get_all("Requires-Dist"))
    assert {one.name for one in needed if one.marker is None} == {"numpy", "torch"}
    extras = {"native", "triton", "suites", "rivals", "gpu"}
    assert set(said.get_all("Provides-Extra")) == extras


def test_the_source_distribution_holds_what_is_tracked(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    with tarfile.open(tmp_path / build.build_sdist(str(tmp_path))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    there = {name for name in tracked.split("\0") if name and (ROOT / name).exists()}
    assert there - held == set()
    assert not {name for name in held if name.startswith(("results/scratch", ".git/", "dist/"))}


def test_citation_archive_and_changelog_are_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    archived = json.loads((ROOT / ".zenodo.json").read_text())
    newest = re.findall(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[
        0
    ]
    assert (cited["version"], cited["date-released"]) == newest
    assert (archived["version"], archived["publication_date"]) == newest
    assert newest[0] == peer.__version__
    assert archived["title"] == cited["title"]


def test_every_record_has_its_line_in_the_changelog() -> None:
    said = (ROOT / "CHANGELOG.md").read_text()
    made = {path.name.partition("-")[0] for path in (ROOT / "results/records").glob("*/*.json")}
    assert made
    assert not {commit for commit in made if f"`{commit}`" not in said}
