"""Files that records give, whole: written, or compared with those that are committed."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from suites.output import say
from suites.records.store import write_bytes


def agree(contents: Mapping[Path, bytes], there: Iterable[Path], verb: str) -> int:
    """Names each file that differs from its content and each of those `there` that has none.

    Returns the exit status, 1 where there is one of either; `verb` is what makes them anew.
    """
    stale = [path for path, content in contents.items() if committed(path) != content]
    orphans = sorted(set(there) - set(contents))
    for path in stale:
        say(
            f"{path} differs from what its records give; run: python -m suites {verb}",
            differs=str(path),
        )
    for path in orphans:
        say(f"{path} comes from no record; delete it, or publish its run", orphan=str(path))
    return 1 if stale or orphans else 0


def committed(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Each by a rename, so that none is half written, with a line for each."""
    for path, content in contents.items():
        write_bytes(path, content)
        say(f"wrote {path}", wrote=str(path))
