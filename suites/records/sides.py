"""From what a user names (a commit, a record file, `paper`) to the records that stand for it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from suites.errors import UserError
from suites.records.commits import Repository
from suites.records.record import ResultFile
from suites.records.store import Store, read

PAPER = "paper"


@dataclass
class Side:
    """One side of a comparison; `notes` state which records stand in for which commit."""

    given: str
    files: list[ResultFile]
    notes: list[str] = field(default_factory=list)


def side(given: str, store: Store, repository: Repository, suite: str | None = None) -> Side:
    """Raises UserError where nothing, or nothing trustworthy, stands for `given`."""
    if given == PAPER:
        files = [file for _, file in store.files("published")]
        return chosen(Side(given, files), suite)
    if given.endswith(".json") or Path(given).is_file():
        return chosen(from_file(Path(given)), suite)
    return from_commit(given, store, repository, suite)


def from_file(path: Path) -> Side:
    results = read(path)
    if results.code is not None and results.code.dirty:
        raise UserError(
            f"{path} was measured on a dirty tree, so it stands for no commit; "
            "commit, run again, and compare that"
        )
    return Side(str(path), [results])


def from_commit(given: str, store: Store, repository: Repository, suite: str | None) -> Side:
    """Per suite and profile the records of the commit, or of its nearest ancestor that has some."""
    commit = repository.resolve(given)
    distance = {sha: steps for steps, sha in enumerate(repository.ancestors(commit))}
    nearest: dict[tuple[str, str], dict[int, list[ResultFile]]] = {}
    for stands_for, file in committed(store, repository):
        if stands_for in distance:
            by_distance = nearest.setdefault((file.suite, file.profile), {})
            by_distance.setdefault(distance[stands_for], []).append(file)
    found = Side(f"{given} ({commit[:12]})" if given != commit else commit[:12], [])
    order = {steps: sha for sha, steps in distance.items()}
    for (name, profile), by_distance in sorted(nearest.items()):
        steps, files = min(by_distance.items())
        found.files += files
        if steps and suite in (None, name):
            found.notes.append(
                f"{found.given} has no records of {name} {profile}; those of its ancestor "
                f"{order[steps][:12]} stand in"
            )
    return chosen(found, suite)


def committed(store: Store, repository: Repository) -> Iterator[tuple[str, ResultFile]]:
    """Every record with the commit it stands for: the one that was measured or, where git no longer
    knows that one (a rebase or a squash rewrote it), the one that brought the record."""
    for path, file in store.files("records"):
        commit = file.code and file.code.commit
        stands_for = commit if commit and repository.ancestors(commit) else repository.brought(path)
        if stands_for is not None:
            yield stands_for, file


def chosen(found: Side, suite: str | None) -> Side:
    """Only the files of `suite`, where one is asked for; a side is never empty."""
    has = sorted({file.suite for file in found.files})
    if suite is not None:
        found.files = [file for file in found.files if file.suite == suite]
    if not found.files:
        wanted = f"records of suite {suite!r}" if suite else "records"
        raise UserError(
            f"{found.given} has no {wanted} at or before it; "
            f"it has {', '.join(has) or 'none at all'}. "
            "Make some with: python -m suites run, then python -m suites publish"
        )
    return found
