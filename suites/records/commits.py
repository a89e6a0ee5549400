"""All that is asked of git, about the checkout at one root."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from suites.errors import UserError


class Repository:
    def __init__(self, root: Path) -> None:
        self.root = root

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
        """`commit` checked out at `folder`, taken away afterwards; the tree at `root` is left alone."""
        self.change("worktree", "add", "--detach", str(folder), commit)
        try:
            yield folder
        finally:
            self.change("worktree", "remove", "--force", str(folder))

    def git(self, *arguments: str) -> str | None:
        """Output of git, None where it fails."""
        done = self.run(*arguments)
        return done.stdout.strip() if done.returncode == 0 else None

    def change(self, *arguments: str) -> None:
        """Where git fails, raises UserError with its words."""
        done = self.run(*arguments)
        if done.returncode:
            raise UserError(f"git {' '.join(arguments[:2])} failed: {done.stderr.strip()}")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        if shutil.which("git") is None:
            raise UserError("git is not installed; commits cannot be looked up")
        return subprocess.run(
            ["git", "-C", str(self.root), *arguments], capture_output=True, text=True
        )
