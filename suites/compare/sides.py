"""From what a user names (a commit, a record file, `paper`) to the records that stand for it."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from suites.errors import UserError
from suites.records.commits import Repository
from suites.records.record import ResultFile
from suites.records.store import Store, parse, read

PAPER = "paper"


@dataclass
class Side:
    """One side of a comparison; `notes` state, as of it, which records stand in for which commit."""

    given: str
    files: list[ResultFile]
    notes: list[str] = field(default_factory=list)


def notes(*sides: Side) -> list[str]:
    """Each once, of the sides that it holds for."""
    every = dict.fromkeys(note for one in sides for note in one.notes)
    return [
        f"{' and '.join(dict.fromkeys(one.given for one in sides if note in one.notes))}: {note}"
        for note in every
    ]


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
    """Per suite and profile the records of the commit, or of its nearest ancestor that has some.

    A record counts until a commit removes it, and one still present goes before a removed one.
    """
    commit = repository.resolve(given)
    distance = {sha: steps for steps, sha in enumerate(repository.ancestors(commit))}
    nearest: dict[tuple[str, str], dict[tuple[int, bool], list[Committed]]] = {}
    for one in committed(store, repository):
        if one.stands_for in distance and one.removed_by not in distance:
            by_rank = nearest.setdefault((one.file.suite, one.file.profile), {})
            rank = distance[one.stands_for], one.removed_by is not None
            by_rank.setdefault(rank, []).append(one)
    found = Side(f"{given} ({commit[:12]})" if given != commit else commit[:12], [])
    stand_ins: dict[str, list[str]] = {}
    for (name, profile), by_rank in sorted(nearest.items()):
        (steps, removed), ones = min(by_rank.items())
        found.files += [one.file for one in ones]
        if suite not in (None, name):
            continue
        if steps:
            stand_ins.setdefault(ones[0].stands_for[:12], []).append(f"{name} {profile}")
        if removed:
            found.notes.append(
                f"{name} {profile} is read from git: "
                f"{', '.join(sorted({str(one.removed_by)[:12] for one in ones}))} removed it"
            )
    found.notes += [
        f"no records of {', '.join(names)}; those of its ancestor {ancestor} stand in"
        for ancestor, names in stand_ins.items()
    ]
    return chosen(found, suite)


@dataclass
class Committed:
    """A record and the commit it stands for: the one that was measured or, where git no longer
    knows that one (a rebase or a squash rewrote it), the one that brought the record.

    `removed_by` is the commit that took the record out of the tree, if one did.
    """

    stands_for: str
    file: ResultFile
    removed_by: str | None = None


def committed(store: Store, repository: Repository) -> Iterator[Committed]:
    """Every record of the tree, then those that HEAD's history holds and the tree no longer."""
    records = ((path, file, None) for path, file in store.files("records"))
    superseded = (
        (repository.root / path, parse(text, Path(path)), commit)
        for commit, path, text in repository.removed(store.root / "records")
    )
    for path, file, removed_by in itertools.chain(records, superseded):
        commit = file.code and file.code.commit
        stands_for = commit if commit and repository.ancestors(commit) else repository.brought(path)
        if stands_for is not None:
            yield Committed(stands_for, file, removed_by)


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
