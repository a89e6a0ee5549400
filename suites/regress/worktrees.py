"""Both commits side by side, each importable with this harness; the user's tree is left alone.

A stage is a folder to import from: `peer`, `baselines` and the registry `suites/layers.py` of one
commit, everything else in `suites` of the harness that runs: one ruler for both commits.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from suites.errors import UserError
from suites.measure.environment import ROOT
from suites.records.commits import Repository

MEASURED = ("peer", "baselines", "suites/layers.py")


@dataclass(frozen=True)
class Stage:
    commit: str
    tree: Path
    folder: Path


@contextmanager
def stages(repository: Repository, commits: list[str]) -> Iterator[list[Stage]]:
    """A stage per commit, removed afterwards.

    Raises UserError where a commit lacks a package and where TMPDIR has no room.
    """
    with ExitStack() as trees:
        try:
            folder = Path(
                trees.enter_context(tempfile.TemporaryDirectory(prefix="peer-regress-"))
            ).resolve()
            tree = {
                commit: trees.enter_context(repository.worktree(commit, folder / commit[:12]))
                for commit in dict.fromkeys(commits)
            }
            made = [
                stage(commit, tree[commit], folder / f"stage-{role}")
                for role, commit in enumerate(commits)
            ]
        except OSError as error:
            raise UserError(
                f"cannot lay out commits side by side: {error.strerror}; TMPDIR names a folder with room"
            ) from error
        yield made


def stage(commit: str, tree: Path, folder: Path) -> Stage:
    if missing := [name for name in MEASURED if not (tree / name).exists()]:
        raise UserError(f"commit {commit[:12]} has no {', '.join(missing)}; it cannot be measured")
    (folder / "suites").mkdir(parents=True)
    for entry in (ROOT / "suites").iterdir():
        if entry.name not in ("layers.py", "__pycache__"):
            (folder / "suites" / entry.name).symlink_to(entry)
    for name in MEASURED:
        (folder / name).symlink_to(tree / name)
    return Stage(commit, tree, folder)
