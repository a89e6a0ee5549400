"""Two versions of the package in one process, as notebooks and hubs of kernels load them."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import peer

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import importlib, sys, torch

def imported(place):
    for name in [name for name in sys.modules if name.partition(".")[0] == "peer"]:
        del sys.modules[name]
    sys.path.insert(0, place)
    return importlib.import_module("peer")

first, second = map(imported, sys.argv[1:])
assert first.__file__ != second.__file__
torch.manual_seed(0)
x, ids, scores, table = torch.randn(3, 4), torch.randint(9, (3, 2)), torch.rand(3, 2), torch.randn(9, 4)
call = lambda copy: copy.bag(ids, scores, table.requires_grad_(), impl="aten")
torch.testing.assert_close(2 * call(first), call(second))
gradients = [torch.autograd.grad(call(copy).sum(), table)[0] for copy in (first, second, first)]
torch.testing.assert_close(2 * gradients[0], gradients[1])
torch.testing.assert_close(gradients[0], gradients[2], rtol=0, atol=0)
"""


def test_each_copy_runs_its_own_operators(tmp_path: Path) -> None:
    """The second doubles every weighted sum and gradient, and the first must not."""
    shutil.copytree(ROOT / "peer", tmp_path / "peer")
    own = tmp_path / "peer" / "operators" / "bags.py"
    text = own.read_text()
    for line in ("return engine(impl).weighted_sum(", "table_result(dtable, "):
        assert text.count(line) == 1
        text = text.replace(
            line, line.replace("engine", "2 * engine").replace("table_r", "2 * table_r")
        )
    own.write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, ROOT, tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_file_of_operators_may_be_loaded_again() -> None:
    name = f"{peer.__name__}.operators.serving"
    again = importlib.reload(importlib.import_module(name))
    assert callable(again.few_tokens)
