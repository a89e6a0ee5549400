"""A worker seen from the harness: asked for one thing at a time, idle in between."""

import os
import subprocess
import sys
import tempfile
from types import TracebackType

from suites.errors import UserError
from suites.regress.worker import Reply, Request
from suites.regress.worktrees import Stage


class Worker:
    """A fresh process that imports from `stage`; after it died every answer is a failure."""

    def __init__(self, stage: Stage, slowdown: float = 0.0) -> None:
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (closed in __exit__)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "suites.regress.worker", str(stage.tree), str(slowdown)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            encoding="utf-8",
            cwd=stage.folder,
            env=isolated(stage),
        )

    def ask(self, request: Request) -> Reply:
        """Raises UserError where the worker would measure code outside its worktree."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(request.model_dump_json() + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return Reply.model_validate_json(line)
        status = self.process.wait()
        return Reply(failure=f"process ended with {status}: {self.last_error()}")

    def last_error(self) -> str:
        self.errors.seek(0)
        last = (self.errors.read().strip().splitlines() or ["no message"])[-1]
        if "OutsideWorktree" in last:
            raise UserError(last.split("OutsideWorktree: ")[-1])
        return last

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the worker, which checks its imports once more."""
        if kind is not None:
            self.process.kill()
        self.process.communicate()
        if kind is None:
            self.last_error()
        self.errors.close()


def isolated(stage: Stage) -> dict[str, str]:
    """The stage comes first on the path; no byte code is written, kernels are compiled, pipes are UTF-8."""
    return os.environ | {
        "PYTHONPATH": str(stage.folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
        "TRITON_INTERPRET": "0",
    }
