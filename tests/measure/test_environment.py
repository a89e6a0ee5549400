"""With which code a number was made: the digest of all sources, the commit, and whether it is clean."""

import subprocess
from pathlib import Path

import pytest

from suites.errors import UserError
from suites.measure import environment
from suites.measure.environment import code


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout that the sources are taken from."""
    root = tmp_path / "checkout"
    for folder in environment.SOURCES:
        (root / folder / "inner").mkdir(parents=True)
        (root / folder / "inner" / "file.py").write_text(f"# {folder}\n")
    (root / "results").mkdir()
    (root / "results" / "table.md").write_text("one")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "first")
    monkeypatch.setattr(environment, "ROOT", root)
    return root


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", "-C", str(root), *identity, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_clean_commit(checkout: Path) -> None:
    found = code()
    assert (found.commit, found.dirty) == (git(checkout, "rev-parse", "HEAD"), False)


@pytest.mark.parametrize("folder", ["peer", "baselines", "suites"])
@pytest.mark.parametrize("change", ["changed", "new", "removed", "renamed"])
def test_the_digest_is_of_every_source(folder: str, change: str, checkout: Path) -> None:
    before = code()
    path = checkout / folder / "inner" / "file.py"
    if change == "changed":
        path.write_text("# other\n")
    elif change == "new":
        path.with_name("other.py").write_text("# other\n")
    elif change == "removed":
        path.unlink()
    else:
        path.rename(path.with_name("other.py"))
    after = code()
    assert after.sha256 != before.sha256
    assert after.dirty


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize("name", ["notes.txt", "peer/new.py", "deep/er/file"])
def test_an_untracked_file_makes_a_tree_dirty(name: str, staged: bool, checkout: Path) -> None:
    path = checkout / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("new")
    if staged:
        git(checkout, "add", ".")
    assert code().dirty
    assert code().commit == git(checkout, "rev-parse", "HEAD")


def test_results_are_data_and_ignored_files_are_nothing(checkout: Path) -> None:
    (checkout / "results" / "table.md").write_text("two")
    (checkout / "results" / "new.md").write_text("new")
    (checkout / ".git" / "info" / "exclude").write_text("ignored\n")
    (checkout / "ignored").write_text("new")
    assert not code().dirty


def test_another_repository_in_the_environment(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = code()
    git(tmp_path, "init", "--quiet", "other")
    git(tmp_path / "other", "commit", "--quiet", "--allow-empty", "--message", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    assert code() == before


def test_a_folder_without_git_inside_another_checkout(checkout: Path) -> None:
    """As a wheel in an environment inside a repository has it."""
    (checkout / ".git").rename(checkout.parent / ".git")
    found = code()
    assert (found.commit, found.dirty) == (None, True)


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code()
    monkeypatch.setenv("PATH", "/nonexistent")
    found = code()
    assert (found.commit, found.dirty, found.sha256) == (None, True, before.sha256)


def test_a_checkout_that_git_refuses_is_an_error(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    with pytest.raises(UserError, match="cannot read the repository at .*dubious ownership"):
        code()
