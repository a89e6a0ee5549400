"""Where a long run left off: one file, written as a whole, that continues it bit for bit."""

import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import torch

from suites.errors import UserError

MAX_SHARE = 0.05  # of the time may go into writing: a large model is saved less often


class Stopped(BaseException):
    """Ends a run that was told to end: no failure, so it has no record."""


class Checkpoint:
    """The checkpoint file of one run.

    Args:
        path: of the file; it belongs to this case, code and machine alone.
        interval_s: shortest time between two writes; a run that ends sooner writes none.
    """

    def __init__(self, path: Path, interval_s: float) -> None:
        self.path, self.interval_s = path, interval_s
        self.last = time.monotonic()
        self.write_s = 0.0
        self.training = False  # between steps there is something to save
        self.stopping = False

    def stop(self, *_: object) -> None:
        """A signal's handler: a run in training saves after its present step and ends, others end at once."""
        if self.stopping:  # it may come from the parent and from whoever ends both
            return
        self.stopping = True
        if not self.training:
            raise Stopped

    def due(self) -> bool:
        return time.monotonic() - self.last >= max(self.interval_s, self.write_s / MAX_SHARE)

    def save(self, state: dict[str, Any]) -> None:
        """Writes beside the file, syncs, renames; raises UserError where the disk is full."""
        start = time.monotonic()
        temporary = self.path.with_name(f".{self.path.name}.{socket.gethostname()}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError as error:
            raise UserError(f"cannot write the checkpoint {self.path}: {error}") from error
        except RuntimeError as error:  # torch's zip writer does not say that the disk is full
            free = shutil.disk_usage(self.path.parent).free / 2**20
            raise UserError(
                f"cannot write the checkpoint {self.path}, {free:,.1f} MiB free there: {error}"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        self.wrote(start)

    def wrote(self, start: float) -> None:
        """Counts a write that began at `start` and has ended."""
        self.last = time.monotonic()
        self.write_s = self.last - start

    def load(self) -> dict[str, Any] | None:
        """What the last `save` wrote, on the CPU; None where there is none."""
        if not self.path.exists():
            return None
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises many kinds
            raise UserError(
                f"the checkpoint {self.path} cannot be read ({type(error).__name__}); delete it "
                "and run again"
            ) from error
