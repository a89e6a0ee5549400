"""All that is asked of git, about the checkout at one root.

The answers are of that checkout whatever surrounds the question: another repository in the environment,
where git sets GIT_DIR for its hooks and editors; settings of the user that change what git prints; hooks,
which are for the user's own checkouts. Where git refuses a repository, its cause is the error.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from suites.errors import UserError

# `git rev-parse --local-env-vars` without those of settings, where a container may trust a folder.
ELSEWHERE = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_NO_REPLACE_OBJECTS",
)
# Its code runs already, so its settings may too, whoever owns it.
OWN = Path(__file__).resolve().parents[2]
SETTINGS = {
    "safe.directory": str(OWN),
    "core.hooksPath": os.devnull,
    "core.quotePath": "false",
    "color.ui": "false",
    "log.showSignature": "false",
    "log.follow": "false",
    "i18n.logOutputEncoding": "utf-8",
    "status.renames": "false",
    "status.submoduleSummary": "false",
}


class Repository:
    def __init__(self, root: Path) -> None:
        self.root = root

    def head(self) -> str | None:
        """The full sha of what is checked out, None before the first commit.

        Raises UserError where git knows no checkout whose top is `root`: what it would answer then is
        of a repository around it.
        """
        if (below := self.git("rev-parse", "--show-prefix")) != "":
            raise UserError(
                f"{self.root / '.git'} is no repository of git, and {self.root} lies in that of another "
                f"folder, as {below}; remove the file or repair the checkout"
            )
        return self.git("rev-parse", "--verify", "--quiet", "HEAD")

    def resolve(self, name: str) -> str:
        """The full sha of a commit, tag or branch; raises UserError for an unknown one."""
        found = self.git(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
        )
        if found is None:
            raise UserError(
                f"unknown commit {name!r}; give a commit, tag or branch of this repository "
                "(a shallow clone knows few: git fetch --unshallow)"
            )
        return found

    def ancestors(self, commit: str) -> list[str]:
        """`commit` and all commits before it, newest first; empty where git does not know it."""
        return (self.git("rev-list", "--topo-order", commit, "--") or "").split()

    def brought(self, path: Path) -> str | None:
        """The newest commit that added `path`, None where none did."""
        arguments = ("log", "-1", "--diff-filter=A", "--format=%H", "--", str(path.resolve()))
        return self.git(*arguments) or None

    def removed(self, folder: Path) -> Iterator[tuple[str, str, str]]:
        """Files of `folder` in HEAD's history that are gone: the commit that removed each last, its
        path and its text."""
        log = ("log", "--no-renames", "--diff-filter=D", "--format=commit %H", "--name-only")
        commit, seen = "", set()
        for line in (self.git(*log, "--", str(folder.resolve())) or "").splitlines():
            if line.startswith("commit "):
                commit = line.removeprefix("commit ")
            elif line and line not in seen and not (self.root / line).exists():
                seen.add(line)
                if (text := self.git("show", f"{commit}^:{line}")) is not None:
                    yield commit, line, text

    def tags(self) -> list[str]:
        """Of HEAD and before it, oldest first."""
        return (self.git("tag", "--merged", "HEAD", "--sort=creatordate") or "").split()

    def between(self, good: str, bad: str) -> list[str]:
        """Commits after `good` up to and without `bad`, oldest first."""
        listed = (
            self.git("rev-list", "--topo-order", "--reverse", f"{good}..{bad}", "--") or ""
        ).split()
        return listed[:-1]

    def subject(self, commit: str) -> str:
        return self.git("show", "--no-patch", "--format=%s", commit, "--") or ""

    def changes(self) -> str | None:
        """Changed and untracked files, results left out: they are data. None where git fails."""
        return self.git("status", "--porcelain", "--untracked-files=all", "--", ".", ":!results")

    @contextmanager
    def worktree(self, commit: str, folder: Path) -> Iterator[Path]:
        """`commit` checked out at `folder`, taken away afterwards; the tree at `root` is left alone.

        Raises UserError with git's cause where it cannot be made or taken away; nothing of one that
        cannot be made stays.
        """
        if folder.exists():
            raise UserError(f"{folder} is there already; a worktree needs a place of its own")
        try:
            self.add(folder, commit)
            yield folder
        except BaseException:
            self.forget(folder)
            raise
        self.forget(folder)
        if str(folder) in (self.git("worktree", "list", "--porcelain") or ""):
            raise UserError(f"git keeps {folder} as a worktree; take it away: git worktree prune")

    def add(self, folder: Path, commit: str) -> None:
        try:
            self.change("worktree", "add", "--quiet", "--detach", str(folder), commit)
        except UserError as error:  # git names a file and not that the disk is full
            free = shutil.disk_usage(folder.parent).free
            raise UserError(f"{error}; {free / 1e6:,.1f} MB are free at {folder.parent}") from None

    def forget(self, folder: Path) -> None:
        """The files first: git forgets a folder that is gone, also one that it made by half."""
        shutil.rmtree(folder, ignore_errors=True)
        self.run("worktree", "remove", "--force", str(folder))

    def git(self, *arguments: str) -> str | None:
        """Output of git, None where it has no answer; raises UserError where it refuses the repository."""
        done = self.run(*arguments)
        if done.returncode == 0:
            return done.stdout.strip()
        if (asked := self.run("rev-parse", "--git-dir")).returncode:
            raise UserError(f"git cannot read the repository at {self.root}: {cause(asked.stderr)}")
        return None

    def change(self, *arguments: str) -> None:
        """Where git fails, raises UserError with its words."""
        done = self.run(*arguments)
        if done.returncode:
            raise UserError(f"git {' '.join(arguments[:2])} failed: {cause(done.stderr)}")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        if shutil.which("git") is None:
            raise UserError("git is not installed; commits cannot be looked up")
        settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        return subprocess.run(
            ["git", "-C", str(self.root), "--no-optional-locks", *settings, *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={k: v for k, v in os.environ.items() if k not in ELSEWHERE} | {"LC_ALL": "C"},
        )


def cause(words: str) -> str:
    """What git says is wrong: its first error, which later ones follow from, and the way out it knows."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    wrong = [line for line in lines if line.startswith(("error:", "fatal:"))]
    ways = [line for line in lines if line.startswith("git config")]
    return "; ".join([*(wrong or lines or ["it does not say why"])[:1], *ways])
