"""A second run on the same GPU is told who holds it."""

import os
import subprocess
import sys

import pytest

from suites.errors import UserError
from suites.measure.lock import exclusive


def test_second_holder_is_refused_with_the_first_ones_name(tmp_path):
    with exclusive("GPU-7", tmp_path):
        code = (
            "import sys, pathlib; from suites.measure.lock import exclusive\n"
            "with exclusive('GPU-7', pathlib.Path(sys.argv[1])): pass"
        )
        second = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
        )
        assert second.returncode != 0
        assert f"GPU-7 is in use by {os.environ.get('USER', '')}" in second.stderr
        assert f"process {os.getpid()}" in second.stderr


def test_another_gpu_is_free_and_a_lock_ends_with_its_holder(tmp_path):
    with exclusive("GPU-7", tmp_path), exclusive("GPU-8", tmp_path):
        pass
    with exclusive("GPU-7", tmp_path), pytest.raises(UserError), exclusive("GPU-7", tmp_path):
        pass
