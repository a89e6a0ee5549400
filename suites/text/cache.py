"""The token cache: where it is, and how a folder of it is written: whole, or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from suites.errors import UserError


def cache_root() -> Path:
    """PEER_SUITE_CACHE, or the platform's folder for caches."""
    return Path(os.environ.get("PEER_SUITE_CACHE") or platformdirs.user_cache_dir("peer-suite"))


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
        raise UserError(f"cannot write the token cache {folder}: {error.strerror}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
