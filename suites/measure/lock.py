"""One run per GPU: a lock file that names its holder and goes with the holder's process."""

import fcntl
import getpass
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from suites.errors import UserError


@contextmanager
def exclusive(name: str, folder: Path | None = None) -> Iterator[None]:
    """Holds `name`, or raises UserError naming the process that does."""
    path = (folder or Path(tempfile.gettempdir())) / f"peer-suite-{name}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{name} is in use by {file.read().strip() or 'a run that is starting'}; "
                "wait for it, or end it"
            ) from None
        file.truncate(0)
        file.write(f"{getpass.getuser()}, process {os.getpid()}: {' '.join(sys.argv)[:200]}\n")
        file.flush()
        yield
