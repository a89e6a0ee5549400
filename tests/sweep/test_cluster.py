"""--executor slurm as one meets it where something is missing; what a cluster does is `tests/slurm`."""

from pathlib import Path

import pytest

RUN = ("run", "methods", "--profile", "smoke", "--layer", "dense")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--partition", "gpu"), "--partition goes with --executor slurm"),
        (("--gpu-type", "h100"), "--gpu-type goes with --executor slurm"),
        (("--after", "12"), "--after goes with --executor slurm"),
        (("--sbatch", "mem=1G"), "--sbatch goes with --executor slurm"),
        (("--executor", "slurm", "--sbatch", "mem"), "--sbatch takes OPTION=VALUE; got 'mem'"),
        (("--executor", "slurm", "--time-limit", "1"), "1 is not in the range x>=3"),
        (("--executor", "slurm", "--gpu-type", "h100"), "profile smoke trains on cpu; --gpu-type"),
    ],
)
def test_options_that_do_not_go_together(
    suites, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = suites(*RUN, *words, "--results", tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_gpus_of_one_type(suites, tmp_path: Path) -> None:
    done = suites(
        "run", "methods", "--profile", "small", "--executor", "slurm", "--results", tmp_path
    )
    assert done.returncode == 2
    assert "profile small trains on cuda; --gpu-type TYPE goes with cuda alone" in done.stderr


def test_where_there_is_no_slurm(suites, tmp_path: Path) -> None:
    words = (*RUN, "--executor", "slurm", "--results", tmp_path)
    done = suites(*words, environment={"PATH": str(tmp_path)})
    assert done.returncode == 2
    assert "there is no squeue here: --executor slurm is for a login node" in done.stderr
