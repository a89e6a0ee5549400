"""git asked in odd surroundings: another repository in the environment, settings, hooks, owners, disks."""

import os
import subprocess
from pathlib import Path

import pytest

from suites.errors import UserError
from suites.records import commits
from suites.records.commits import Repository, cause


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def made(folder: Path, text: str) -> Repository:
    """A repository of two commits that hold one file with `text` and a name beyond ASCII."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    for line in ("first", "second"):
        (folder / "é.txt").write_text(f"{text} {line}")
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "--message", f"{text} {line} é")
    return Repository(folder)


@pytest.fixture
def asked(tmp_path: Path) -> Repository:
    return made(tmp_path / "asked", "asked")


@pytest.fixture
def answers(asked: Repository) -> list:
    return everything(asked)


def everything(repository: Repository) -> list:
    head = repository.head()
    assert head is not None
    return [
        head,
        repository.resolve("HEAD~1"),
        repository.ancestors(head),
        repository.subject(head),
        repository.brought(repository.root / "é.txt"),
        repository.changes(),
        repository.between("HEAD~1", "HEAD"),
    ]


@pytest.mark.parametrize(
    "names",
    [("GIT_DIR",), ("GIT_DIR", "GIT_WORK_TREE"), ("GIT_INDEX_FILE",), ("GIT_COMMON_DIR",),
     ("GIT_OBJECT_DIRECTORY",), ("GIT_NAMESPACE",), ("GIT_WORK_TREE",)],
)  # fmt: skip
@pytest.mark.parametrize("changed", [False, True])
def test_another_repository_in_the_environment(
    names: tuple[str, ...], changed: bool, asked: Repository, tmp_path: Path, monkeypatch
) -> None:
    if changed:
        (asked.root / "new é.txt").write_text("untracked")
    expected = everything(asked)
    assert bool(expected[5]) is changed
    other = made(tmp_path / "other", "other")
    places = {
        "GIT_WORK_TREE": other.root,
        "GIT_INDEX_FILE": other.root / ".git" / "index",
        "GIT_OBJECT_DIRECTORY": other.root / ".git" / "objects",
        "GIT_NAMESPACE": "other",
    }
    for name in names:
        monkeypatch.setenv(name, str(places.get(name, other.root / ".git")))
    assert everything(asked) == expected


def test_every_variable_that_git_calls_local_is_left_out_or_a_setting() -> None:
    listed = subprocess.run(
        ["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True
    ).stdout.split()
    kept = set(listed) - set(commits.ELSEWHERE)
    assert all(name.startswith("GIT_CONFIG") for name in kept), kept


SETTINGS = {
    "color.ui": "always",
    "status.branch": "true",
    "status.short": "true",
    "status.showUntrackedFiles": "no",
    "log.showSignature": "true",
    "log.decorate": "full",
    "log.follow": "true",
    "diff.renames": "copies",
    "core.quotePath": "true",
    "core.abbrev": "4",
    "i18n.logOutputEncoding": "latin-1",
    "format.pretty": "fuller",
    "log.date": "relative",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_the_user(
    name: str, asked: Repository, answers: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "gitconfig"
    git(tmp_path, "config", "--file", str(settings), name, SETTINGS[name])
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    assert everything(asked) == answers
    (asked.root / "new.txt").write_text("untracked")
    assert asked.changes() == "?? new.txt"


def test_an_encoding_that_is_not_utf8(
    asked: Repository, answers: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LANG", "LANGUAGE"):
        monkeypatch.setenv(name, "de_DE.ISO-8859-1")
    assert everything(asked) == answers
    assert answers[3] == "asked second é"


def test_a_linked_worktree_has_its_own_head(asked: Repository, tmp_path: Path) -> None:
    with asked.worktree("HEAD~1", tmp_path / "linked") as folder:
        linked = Repository(folder)
        assert linked.head() == asked.resolve("HEAD~1") != asked.head()
        assert linked.changes() == ""
        (folder / "new.txt").write_text("untracked")
        assert (linked.changes(), asked.changes()) == ("?? new.txt", "")


def test_a_repository_of_another_owner(
    asked: Repository, answers: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By git's own switch for testing it: refused with the cause, but for the checkout that runs."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for act in (
        asked.head,
        asked.changes,
        lambda: asked.resolve("HEAD"),
        lambda: asked.subject("HEAD"),
    ):
        with pytest.raises(UserError, match=r"dubious ownership .*; git config .* safe.directory"):
            act()
    monkeypatch.setitem(commits.SETTINGS, "safe.directory", str(asked.root))
    assert everything(asked) == answers


def test_the_checkout_that_runs_is_trusted() -> None:
    assert commits.SETTINGS["safe.directory"] == str(Path(__file__).resolve().parents[2])


@pytest.mark.parametrize(
    "broken", ["empty folder", "empty file", "link to nowhere", "no repository"]
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_broken_checkout_never_has_the_commit_of_another(
    broken: str, inside: bool, tmp_path: Path
) -> None:
    outer = made(tmp_path / "outer", "outer").root if inside else tmp_path
    root = outer / "inner"
    root.mkdir()
    if broken == "empty folder":
        (root / ".git").mkdir()
    elif broken == "empty file":
        (root / ".git").touch()
    elif broken == "link to nowhere":
        (root / ".git").write_text("gitdir: /nowhere/.git/worktrees/inner\n")
    with pytest.raises(UserError, match=r"is no repository|cannot read the repository at"):
        Repository(root).head()


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert Repository(tmp_path).head() is None
    with pytest.raises(UserError, match="unknown commit 'HEAD'"):
        Repository(tmp_path).resolve("HEAD")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the repository at .*cannot change to"):
        Repository(tmp_path / "none").head()


def test_no_git(asked: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UserError, match="git is not installed"):
        asked.head()


@pytest.mark.parametrize("hook", ["post-checkout", "post-index-change", "reference-transaction"])
@pytest.mark.parametrize("status", [0, 1])
def test_hooks_of_the_user_do_not_run(
    hook: str, status: int, asked: Repository, tmp_path: Path
) -> None:
    path = asked.root / ".git" / "hooks" / hook
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\necho pnpm: not found >&2\nexit {status}\n")
    path.chmod(0o755)
    with asked.worktree("HEAD~1", tmp_path / "tree") as tree:
        assert (tree / "é.txt").read_text() == "asked first"
    assert not (tmp_path / "ran").exists()
    assert listed(asked) == 1


def listed(repository: Repository) -> int:
    """Worktrees, that of the checkout itself among them."""
    return git(repository.root, "worktree", "list", "--porcelain").count("worktree ")


def test_worktrees_that_cannot_be_made(asked: Repository, tmp_path: Path) -> None:
    (asked.root / ".git" / "worktrees").touch()
    with (
        pytest.raises(UserError, match="git worktree add failed: fatal: could not create leading"),
        asked.worktree("HEAD", tmp_path / "tree"),
    ):
        pass
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize("taken", ["folder", "file"])
def test_a_place_that_is_taken(taken: str, asked: Repository, tmp_path: Path) -> None:
    mine = tmp_path / "tree" / "mine" if taken == "folder" else tmp_path / "tree"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with (
        pytest.raises(UserError, match="tree is there already"),
        asked.worktree("HEAD", tmp_path / "tree"),
    ):
        pass
    assert mine.read_text() == "mine"
    assert listed(asked) == 1


def test_a_disk_that_is_full(asked: Repository, tmp_path: Path) -> None:
    """A filter that fails stands for a disk that fills up while files are written."""
    git(asked.root, "config", "filter.full.smudge", "false")
    git(asked.root, "config", "filter.full.required", "true")
    (asked.root / ".git" / "info").mkdir(exist_ok=True)
    (asked.root / ".git" / "info" / "attributes").write_text("* filter=full\n")
    with (
        pytest.raises(UserError, match=r"git worktree add failed: .*; [\d,.]+ MB are free at "),
        asked.worktree("HEAD", tmp_path / "tree"),
    ):
        pass
    assert not (tmp_path / "tree").exists()
    assert listed(asked) == 1


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_fails_inside_is_what_is_raised(
    error: type[BaseException], asked: Repository, tmp_path: Path
) -> None:
    with pytest.raises(error, match="inside"), asked.worktree("HEAD", tmp_path / "tree") as tree:  # noqa: PT012
        (tree / ".git").unlink()
        raise error("inside")
    assert not (tmp_path / "tree").exists()
    assert listed(asked) == 1


def test_a_worktree_that_stays_is_named(
    asked: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Repository, "forget", lambda self, folder: None)
    with (
        pytest.raises(UserError, match=r"git keeps .*tree as a worktree"),
        asked.worktree("HEAD", tmp_path / "tree"),
    ):
        pass


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "Preparing worktree\nerror: unable to write a\nfatal: Could not reset\n",
            "error: unable to write a",
        ),
        ("hook says no\n", "hook says no"),
        ("\n", "it does not say why"),
        ("fatal: dubious\n\n\tgit config --global x\n", "fatal: dubious; git config --global x"),
    ],
)
def test_the_cause_is_the_first_error(words: str, expected: str) -> None:
    assert cause(words) == expected
