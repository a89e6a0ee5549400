"""A second measurement on the same device is told who holds it."""

import os
import subprocess
import sys

import pytest

from suites.errors import UserError
from suites.measure.lock import exclusive, measuring


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


def test_whoever_measures_on_processors_locks_them(tmp_path, monkeypatch):
    """The speed suites and the gate alike."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with exclusive("CPU"), pytest.raises(UserError, match="CPU is in use by"), measuring("cpu"):
        pass


def test_a_lock_is_for_every_user(tmp_path):
    with exclusive("CPU", tmp_path):
        (path,) = tmp_path.iterdir()
        assert path.stat().st_mode & 0o777 == 0o666


def test_a_lock_that_cannot_be_made_is_one_sentence(tmp_path):
    with (
        pytest.raises(UserError, match="cannot lock .*: No such file"),
        exclusive("CPU", tmp_path / "no"),
    ):
        pass
