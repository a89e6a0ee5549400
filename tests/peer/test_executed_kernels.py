"""The compiled kernels, executed: tests of this folder in a process that runs PTX on the CPU.

Specialised as the launcher specialises them for these tensors, with every access checked for bounds,
alignment and races (`tests.peer.machine`).
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).resolve().parents[2]
FILES = ("test_experts.py", "test_retrieve.py", "test_stepping.py")
# Named by what stands in the tests' ids. Every kernel is in it, at least once in a bent shape.
QUICK = "triton and (activations or 1-128-256 or 9-6-100 or long_runs or in_pieces or dtype0 or softmax)"
# Memory for who touched what is eight bytes a byte.
EXCLUDED = "beyond_2_to_the_31"


def execute(files, chosen: str) -> int:
    """Runs the chosen tests on the machine; how many cases it executed."""
    command = [sys.executable, "-m", "pytest", "-p", "tests.peer.machine.plugin", "--tb=short"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-q", "-k", chosen, *map(str, files)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return int(re.search(r"(\d+) executed", done.stdout)[1])


@pytest.mark.slow
def test_every_planted_defect_is_found():
    execute([Path(__file__).with_name("machine") / "test_planted.py"], "test")


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_executed(file, count_kernels):
    count = execute([Path(__file__).with_name(file)], f"{QUICK} and not {EXCLUDED}")
    assert count > 0
    count_kernels("executed", count)


@pytest.mark.exhaustive
@pytest.mark.parametrize("file", FILES)
def test_executed_at_all_shapes(file, count_kernels):
    chosen = f"triton and not ({QUICK}) and not {EXCLUDED}"
    count_kernels("executed", execute([Path(__file__).with_name(file)], chosen))
