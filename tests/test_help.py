"""Help is asked often and must not wait: no verb and no suite imports what computes, to explain itself."""

import subprocess
import sys
import time
from pathlib import Path

from suites.__main__ import VERBS
from suites.registry import SUITES

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "scipy", "matplotlib", "pandas", "numpy")
EVERY = [[], *([verb] for verb in VERBS), *(["run", suite] for suite in SUITES)]
PROGRAM = f"""
import sys
from suites.__main__ import called

for words in {EVERY}:
    assert called([*words, "--help"]) == 0, words
    assert not (found := set({HEAVY}) & set(sys.modules)), (words, found)
"""
MOST_SECONDS = 1.0


def test_no_help_imports_what_computes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(f"Usage: python -m suites run {suite}" in done.stdout for suite in SUITES)


def test_help_is_there_at_once() -> None:
    """The help of all suites beside each other, which loads every one of them; the best of three calls."""

    def seconds(*arguments: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
        return time.perf_counter() - start

    for words in ([], ["run"]):
        own = min(seconds("-m", "suites", *words, "--help") for _ in range(3))
        assert own - seconds("-c", "pass") < MOST_SECONDS, words
