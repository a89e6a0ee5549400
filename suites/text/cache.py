"""The token cache: where it is, and how a folder of it is written: whole, or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs

from suites.errors import UserError
from suites.records.places import place
from suites.records.record import canonical, digest


def cache_root() -> Path:
    """PEER_SUITE_CACHE, or the platform's folder for caches."""
    return place(os.environ.get("PEER_SUITE_CACHE") or platformdirs.user_cache_dir("peer-suite"))


def unusable(folder: Path, what: str, error: Exception | None = None) -> UserError:
    """The error of a folder that does not hold what was written; the cause, where it may not be read."""
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        return UserError(
            f"the token cache {folder} cannot be read: {error.strerror}; PEER_SUITE_CACHE names another"
        )
    return UserError(
        f"the token cache {folder} is damaged: {what}; delete that folder and run again"
    )


def seal(path: Path, stated: dict[str, Any]) -> None:
    """Writes what is known about a folder beside its own digest, so that an edit shows."""
    path.write_text(canonical(stated | {"seal": digest(stated)}), encoding="utf-8")


def sealed(path: Path) -> dict[str, Any]:
    """What `seal` wrote; raises OSError or ValueError where it is not there or was changed."""
    stated = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(stated, dict) or stated.pop("seal", None) != digest(stated):
        raise ValueError(f"{path.name} was changed")
    return stated


@contextmanager
def written(folder: Path) -> Iterator[Path]:
    """A temporary folder to write into, which becomes `folder` at the end.

    Raises UserError where the cache cannot be written; then nothing of it stays.
    """
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        yield temporary
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.exists():  # else another process was faster with the same content
                raise
    except OSError as error:
        raise UserError(
            f"cannot write the token cache {folder}: {error.strerror}; PEER_SUITE_CACHE names a folder "
            "that can be written"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
