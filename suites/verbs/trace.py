"""Where the time of a training step goes: share of it in kernels, and the largest of them.

SUITE is a training suite, as `python -m suites list` names them. Each layer of the profile is traced
in its largest backbone, on random tokens.
"""

from dataclasses import asdict
from pathlib import Path

import click

from suites.errors import UserError
from suites.output import say, within
from suites.records.places import PLACE


@click.command(name="trace", help=__doc__)
@click.argument("suite")
@click.option("--profile", default="tiny", show_default=True, help="of a training suite")
@click.option("--layer", "layers", multiple=True, help="only these; repeatable")
@click.option("--steps", type=click.IntRange(min=4), default=30, show_default=True)
@click.option(
    "--output",
    type=PLACE,
    help="folder for a Chrome trace of each layer",
)
def command(
    suite: str, profile: str, layers: tuple[str, ...], steps: int, output: Path | None
) -> None:
    import torch

    from suites.language_model.trace import trace
    from suites.registry import PAPER_SUITES, load, profile_of
    from suites.sweep.experiment import Profile
    from suites.sweep.plan import UNREAD

    known = load(suite).PROFILES
    if not isinstance(next(iter(known.values())), Profile):
        training = [name for name in PAPER_SUITES if name != suite]
        raise UserError(f"{suite} trains nothing; those that do are {', '.join(training)}")
    chosen = profile_of(suite, known, profile)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"profile {profile} needs a CUDA device and torch sees none")
    last = chosen.model_copy(
        update={
            "backbones": chosen.backbones[-1:],
            "budgets_flops": chosen.budgets_flops[-1:],
            "seeds": chosen.seeds[:1],
            **({"arms": chosen.only(layers)} if layers else {}),
        }
    )
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    rows, traces = [], []
    for case in last.cases(UNREAD):
        path = output / f"{case.layer}.json" if output else None
        found = trace(case, last.vocabulary, steps, path)
        largest = list(found.largest.items())[:3]
        traces.append({"layer": case.layer} | asdict(found))
        rows.append(
            (
                case.layer,
                f"{found.step_ms:.2f}",
                f"{found.training_flops_per_s / 1e9:,.1f}",
                f"{found.in_kernels:.0%}",
                ", ".join(f"{name} {share:.0%}" for name, share in largest),
            )
        )
    backbone = last.backbones[0]
    title = (
        f"{suite}, profile {profile}: {steps} steps in {backbone.blocks} × {backbone.dim} on "
        f"{last.device}, {last.threads} thread(s)"
    )
    headers = ("layer", "step ms", "GFLOP/s", "in kernels", "largest")
    say(f"{title}\n\n{within(headers, rows)}", title=title, traces=traces)
