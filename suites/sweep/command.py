"""The `run` verb of a training suite, and the options that every verb of training takes."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import click

from suites.output import say
from suites.records.places import PLACE
from suites.registry import profile_of
from suites.sweep.cluster import cluster_options
from suites.sweep.experiment import Profile

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Finite(click.FloatRange):
    """A range without the numbers that are in none, NaN, and in any, infinity."""

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> float:
        number = super().convert(value, param, context)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, context)
        return number


ONE_RUN = (
    click.option(
        "--data",
        multiple=True,
        metavar="FILE",
        help="parquet, jsonl or text file with documents, or hf://datasets/OWNER/NAME@REVISION/FILE; "
        "repeatable. Default: the running Python's standard library.",
    ),
    click.option(
        "--held-out",
        multiple=True,
        metavar="FILE",
        help="validation documents; default: one document in 50 of --data",
    ),
    click.option("--tokenizer", type=PLACE, help="a SentencePiece file; default: bytes"),
    click.option(
        "--evaluation",
        "evaluations",
        multiple=True,
        metavar="NAME[=FILE]",
        help="evaluate every run on curation, lambada, pile, wikitext or c4 too: the hub's file, or "
        "FILE as for --data; FILE#sha256=HEX is checked; repeatable",
    ),
    click.option(
        "--checkpoint-interval",
        "checkpoint_interval_s",
        type=Finite(min=0),
        default=120,
        show_default=True,
        help="seconds between two checkpoints of a run; shorter runs write none",
    ),
    click.option("--results", type=PLACE, help="folder of results; default: results/"),
)
OPTIONS = (
    *ONE_RUN,
    click.option(
        "--jobs",
        type=click.IntRange(min=1),
        help="processes at a time; default: one per core on a CPU",
    ),
    click.option("--wide", is_flag=True, help="print all columns of the tables"),
    click.option(
        "--plan",
        is_flag=True,
        help="print runs, FLOPs, tokens, memory and estimated time; start nothing",
    ),
)


def taking(options: Sequence[Decorator]) -> Decorator:
    """Gives a command `options`, in their order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


how_options = taking(OPTIONS)  # those that make a `suites.sweep.run.How`, and --plan


def training_command(suite: str, card: str, profiles: dict[str, Profile]) -> click.Command:
    """The `run` verb of a training suite; `card` is its module's docstring."""

    @click.command(name=suite, help=card)
    @click.option(
        "--profile", default="tiny", show_default=True, help=f"one of {', '.join(profiles)}"
    )
    @click.option(
        "--layer",
        "layers",
        multiple=True,
        help="only these layers, registered ones outside the profile too; repeatable",
    )
    @click.option("--seeds", type=click.IntRange(1, 1000), help="number of seeds")
    @click.option(
        "--budget",
        type=Finite(min=0, min_open=True),
        help="training FLOPs per run, instead of the profile's",
    )
    @how_options
    @cluster_options
    def command(profile, layers, seeds, budget, plan, cluster, **how):
        from suites.sweep.plan import Plan, Rates
        from suites.sweep.pool import Crew
        from suites.sweep.run import How, sweep

        chosen = profile_of(suite, profiles, profile)
        changes: dict[str, Any] = {}
        if layers:
            changes["arms"] = chosen.only(layers)
        if seeds:
            changes["seeds"] = tuple(range(seeds))
        if budget:
            changes["budgets_flops"] = (budget,)
        chosen = chosen.model_copy(update=changes)
        if plan:
            ways = How(**how)
            say(Plan(suite, profile, chosen, ways, Rates.of(ways.store())).text())
            return 0
        with Crew() as crew:
            return sweep(suite, profile, chosen, How(**how, cluster=cluster), crew)

    return command
