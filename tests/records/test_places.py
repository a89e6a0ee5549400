"""Places as users write them, and as a worker in another folder reads them."""

from pathlib import Path

import pytest

from suites.errors import UserError
from suites.records.places import place
from suites.records.store import Store
from suites.text.cache import cache_root


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("out", "out"),
        ("./out", "out"),
        ("~/out", "home/out"),
        ("~", "home"),
        ("a/~/b", "a/~/b"),
        ("../{}/out", "../{}/out"),
    ],
)
def test_places_are_absolute_where_they_are_named(
    given: str, expected: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, expected = given.format(here.name), expected.format(here.name)
    monkeypatch.setenv("PEER_SUITE_CACHE", given)
    for found in (place(given), Store(Path(given)).root, cache_root()):
        assert found == here / expected
        assert found.is_absolute()


def test_an_absolute_place_stays(here: Path) -> None:
    assert place(here / "out") == here / "out"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("x" * 300, "cannot use .*: File name too long; name another place"),
        ("/".join(["x" * 200] * 30), "cannot use .*: File name too long"),
        ("~nobody-of-that-name", "~nobody-of-that-name names no place"),
        ("a\0b", "names no place: embedded null byte"),
        ("circle", "cannot use .*: Too many levels of symbolic links"),
    ],
)
def test_what_is_no_place(given: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("circle").symlink_to("circle")
    if "\0" not in given:
        monkeypatch.setenv("PEER_SUITE_CACHE", given)
        with pytest.raises(UserError, match=message):
            cache_root()
    for act in (place, Store):
        with pytest.raises(UserError, match=message):
            act(Path(given))


def test_a_folder_that_was_taken_away(here: Path) -> None:
    (here / "gone").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here / "gone")
        (here / "gone").rmdir()
        with pytest.raises(UserError, match="out names no place: .*No such file"):
            place("out")
