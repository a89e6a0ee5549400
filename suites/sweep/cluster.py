"""What the command line asks of a Slurm cluster, whose nodes see this checkout, its results and the cache."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import click

from suites.errors import UserError


class Request(NamedTuple):
    """Options of sbatch; None and () leave them to the cluster."""

    partition: str | None
    gpu_type: str | None
    time_limit_min: int
    after: str | None
    sbatch: tuple[str, ...]


OPTIONS = (
    click.option(
        "--executor",
        type=click.Choice(("local", "slurm")),
        default="local",
        show_default=True,
        help="where runs go: this machine, or a Slurm cluster that shares this folder and the cache",
    ),
    click.option("--partition", help="of Slurm; default: the cluster's own"),
    click.option("--gpu-type", help="TYPE of Slurm's gpu:TYPE; every run gets one of these"),
    click.option(
        "--time-limit",
        "time_limit_min",
        type=click.IntRange(min=3),
        default=1440,
        show_default=True,
        help="minutes of a run in Slurm; one that needs more goes on from its checkpoint in a new turn",
    ),
    click.option(
        "--after", metavar="JOB[:JOB]", help="start when these Slurm jobs ended, however they did"
    ),
    click.option(
        "--sbatch",
        multiple=True,
        metavar="OPTION=VALUE",
        help="any other option of sbatch, such as account=NAME or mem=32G; repeatable",
    ),
)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives `command` the options, and as `cluster` a Request, or None for this machine."""

    @functools.wraps(command)
    def called(
        executor: str,
        partition: str | None,
        gpu_type: str | None,
        time_limit_min: int,
        after: str | None,
        sbatch: tuple[str, ...],
        **others: Any,
    ) -> Any:
        asked = Request(partition, gpu_type, time_limit_min, after, sbatch)
        if wrong := [one for one in sbatch if not one.partition("=")[2]]:
            raise UserError(f"--sbatch takes OPTION=VALUE; got {wrong[0]!r}")
        if executor == "slurm":
            return command(**others, cluster=asked)
        if given := [n for n in ("partition", "gpu_type", "after", "sbatch") if getattr(asked, n)]:
            raise UserError(f"--{given[0].replace('_', '-')} goes with --executor slurm")
        return command(**others, cluster=None)

    for option in reversed(OPTIONS):
        called = option(called)
    return called
