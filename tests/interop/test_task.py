"""The task for competing kernels: a submission is judged here, and a wrong one is refused.

`PEER_SUBMISSION=kernel.py pytest tests/interop/test_task.py` judges yours.
"""

import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
import yaml

import peer

ROOT = Path(__file__).resolve().parents[2]
TASK = ROOT / "interop" / "task"
SPECIFICATION = yaml.safe_load((TASK / "task.yml").read_text())
SUBMISSION = Path(os.environ.get("PEER_SUBMISSION", TASK / "submission.py"))
HOSTS = ("eval.py", "utils.py")  # a contest brings these
MODULES = ("submission", "task", "reference", "definition")


class Task(NamedTuple):
    reference: ModuleType
    submission: ModuleType


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Task]:
    """The files of task.yml in one folder, as a contest lays them out."""
    folder = tmp_path_factory.mktemp("task")
    for file in SPECIFICATION["files"]:
        if file["name"] not in HOSTS:
            given = file["source"] == "@SUBMISSION@"
            shutil.copy(SUBMISSION if given else TASK / file["source"], folder / file["name"])
    sys.path.insert(0, str(folder))
    yield Task(*(importlib.import_module(name) for name in ("reference", "submission")))
    sys.path.remove(str(folder))
    for name in MODULES:
        sys.modules.pop(name, None)


def ids_of(case: dict) -> str:
    return "-".join(map(str, case.values()))


@pytest.mark.parametrize("case", SPECIFICATION["tests"], ids=ids_of)
def test_the_submission_is_right(task: Task, case: dict) -> None:
    data = task.reference.generate_input(**case)
    given = tuple(tensor.clone() for tensor in data)
    right, reason = task.reference.check_implementation(data, task.submission.custom_kernel(given))
    assert right, reason


WRONG: dict[str, Callable] = {
    "no scores": lambda x, ids, scores, *tables: (x, ids, torch.ones_like(scores), *tables),
    "next expert": lambda x, ids, scores, down, up: (x, ids, scores, down, up.roll(1, 0)),
    "last pair left out": lambda x, ids, scores, *tables: (x, ids[:, 1:], scores[:, 1:], *tables),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_kernel_is_refused(task: Task, wrong: str) -> None:
    data = task.reference.generate_input(**SPECIFICATION["tests"][1])
    output = task.reference.ref_kernel(WRONG[wrong](*data))
    right, reason = task.reference.check_implementation(data, output)
    assert not right
    assert "relative error" in reason


def test_nan_and_another_dtype_are_refused(task: Task) -> None:
    data = task.reference.generate_input(**SPECIFICATION["tests"][1])
    output = task.reference.ref_kernel(data)
    assert task.reference.check_implementation(data, output)[0]
    assert not task.reference.check_implementation(data, output * float("nan"))[0]
    assert "y must be" in task.reference.check_implementation(data, output.float())[1]


def test_the_reference_is_the_layers_own(task: Task) -> None:
    data = task.reference.generate_input(**SPECIFICATION["tests"][2])
    wide = [tensor if tensor.dtype == torch.int32 else tensor.double() for tensor in data]
    expected = peer.experts(*wide, impl="reference")
    torch.testing.assert_close(task.reference.ref_kernel(wide), expected)


def test_every_number_of_a_case_is_one_that_a_contest_can_pass(task: Task) -> None:
    """Its files of cases hold whole numbers and words of letters alone."""
    for case in SPECIFICATION["tests"] + SPECIFICATION["benchmarks"]:
        assert all(isinstance(value, int) or value.isalpha() for value in case.values())
        assert case["experts"] * case["dim"] * 2 < 2**32
