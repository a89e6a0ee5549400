"""One measurement per device: a lock file that names its holder and goes with the holder's process."""

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
def measuring(device: str) -> Iterator[None]:
    """All of a device for whoever times something on it: side by side both would be wrong."""
    with exclusive("CPU" if device == "cpu" else gpu_name()):
        yield


def gpu_name() -> str:
    from torch import cuda

    return f"GPU-{cuda.get_device_properties(cuda.current_device()).uuid}"


@contextmanager
def exclusive(name: str, folder: Path | None = None) -> Iterator[None]:
    """Holds `name`, or raises UserError naming the process that does."""
    path = (folder or Path(tempfile.gettempdir())) / f"peer-suite-{name}.lock"
    with os.fdopen(opened(path), "r+", encoding="utf-8") as file:
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


def opened(path: Path) -> int:
    """A descriptor of the file, which every user may open; raises UserError where this one may not."""
    try:
        try:
            return os.open(path, os.O_RDWR)  # Linux refuses O_CREAT for another's file in /tmp
        except FileNotFoundError:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
            os.fchmod(descriptor, 0o666)
            return descriptor
    except OSError as error:
        raise UserError(
            f"cannot lock {path}: {error.strerror}; make it writable, or set TMPDIR to a folder that is"
        ) from error
