"""Train one model over several GPUs or processes: torchrun --nproc-per-node N -m suites train SUITE.

The case of one layer in a training suite's largest backbone and budget, its tables spread over the
processes by columns or by rows, the rest by FSDP2. The record says over how many. Without torchrun
one process runs it.
"""

from typing import Any

import click

from suites.errors import UserError
from suites.output import silence
from suites.sweep.command import ONE_RUN, Finite, taking


@click.command(name="train", help=__doc__)
@click.argument("suite")
@click.option("--profile", default="tiny", show_default=True, help="of a training suite")
@click.option("--layer", required=True, help="a registered layer")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--budget", type=Finite(min=0, min_open=True), help="training FLOPs, instead of the profile's"
)
@click.option(
    "--sharding",
    type=click.Choice(["columns", "rows"]),
    help="of the tables; default: what sends less",
)
@taking(ONE_RUN)
def command(
    suite: str,
    profile: str,
    layer: str,
    seed: int,
    budget: float | None,
    sharding: Any,
    **how: Any,
) -> int:
    import os

    from suites.distributed.run import train_over_ranks
    from suites.registry import load, profile_of
    from suites.sweep.experiment import Profile
    from suites.sweep.run import How

    if int(os.environ.get("RANK", 0)):
        silence()
    known = load(suite).PROFILES
    if not isinstance(next(iter(known.values())), Profile):
        raise UserError(f"{suite} trains nothing; `python -m suites list` names the suites that do")
    chosen = profile_of(suite, known, profile)
    arms, budgets = chosen.only((layer,)), (budget,) if budget else chosen.budgets_flops[-1:]
    one = chosen.model_copy(
        update={
            "arms": arms[-1:],
            "backbones": chosen.ladders.get(budgets[-1], chosen.backbones)[-1:],
            "ladders": {},
            "budgets_flops": budgets,
            "seeds": (seed,),
        }
    )
    return train_over_ranks(profile, one, How(jobs=None, **how), sharding)
