"""One results folder, the verbs that fill it, and what must hold of it whenever one of them was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from suites.records.store import read

# What a repetition on one machine does not give again.
MEASURED = {"train_s", "tokens_per_s", "peak_bytes"}
PHASES = ("train", "publish", "tables")


class Campaign:
    """`folder` holds results and text, `checkout` the code; several may share a token `cache`."""

    def __init__(self, folder: Path, checkout: Path, cache: Path) -> None:
        self.checkout = checkout
        self.results = folder / "results"
        self.passages = folder / "pile.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        texts = [{"text": f"{number} experts, one neuron each. " * 40} for number in range(40)]
        self.passages.write_text("".join(json.dumps(text) + "\n" for text in texts))
        self.environment = os.environ | {
            "PEER_SUITE_CACHE": str(cache),
            "PYTHONPATH": str(checkout),
        }

    def words(self, phase: str) -> list[str]:
        made = sorted(self.results.glob("scratch/keys-smoke/*"))
        chosen = {
            "train": [
                "run", "keys", "--profile", "smoke", "--checkpoint-interval", "0",
                "--evaluation", f"pile={self.passages}",
            ],
            "publish": ["publish", *map(str, made)],
            "tables": ["tables"],
        }[phase]  # fmt: skip
        return [sys.executable, "-m", "suites", *chosen, "--results", str(self.results)]

    def start(self, phase: str, *before: str, **environment: str) -> subprocess.Popen[str]:
        """The verb of `phase`, in a group of its own; `before` are words that run it."""
        return subprocess.Popen(
            [*before, *self.words(phase)],
            cwd=self.checkout,
            env=self.environment | environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell that started the tests in the background has them ignore interrupts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def finish(self, phase: str) -> None:
        process = self.start(phase)
        _, errors = process.communicate()
        assert process.returncode == 0, f"{phase}: {errors[-2000:]}"

    def killed(self, phase: str, after_s: float) -> bool:
        """Whether the verb was still at work when SIGKILL came to it and to all that it had started."""
        process = self.start(phase)
        try:
            process.communicate(timeout=after_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return True
        assert process.returncode == 0
        return False

    def runs(self) -> dict[str, dict]:
        """Case → what its run says, without times; fails where a file is half or a case is twice."""
        found: dict[str, dict] = {}
        for path in sorted(self.results.glob("scratch/runs/**/*.json")):
            for record in read(path).records:
                assert record.case_id not in found, f"{path} holds a case again"
                assert record.status == "ok", record.reason
                metrics = {k: v for k, v in record.metrics.items() if k not in MEASURED}
                found[record.case_id] = {"metrics": metrics, "series": record.series}
        return found

    def check(self) -> None:
        """All that lies there is whole."""
        for kind in ("records", "scratch"):
            for path in self.results.glob(f"{kind}/**/*.json"):
                read(path)

    def left_over(self) -> list[str]:
        """Halves of files, and checkpoints of runs that are done."""
        hidden = [path for path in self.results.rglob(".*") if path.is_file()]
        return sorted(path.name for path in (*hidden, *self.results.rglob("*.checkpoint")))


def wait_for(there: Path, pattern: str, process: subprocess.Popen, most_s: float = 120) -> None:
    """Until a file that fits exists; fails where the process ends before."""
    deadline = time.monotonic() + most_s
    while not any(there.rglob(pattern)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
