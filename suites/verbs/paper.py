"""Every table and figure of the paper and what it leaves open, one suite after another, and the verdicts.

What finished is not run again, and what one suite made another takes. `--evaluation` is for suite
table1 alone: without it, its tables name the sets as gaps.

Exit status: 1 when a run failed, else those of every verb.
"""

import hashlib
from typing import Any

import click

from suites.output import say
from suites.sweep.command import how_options

# In the order of the paper, then what it leaves open; each takes runs of those before it.
ARTEFACTS = (
    "isoflop",
    "compute_trend",
    "table1",
    "number_of_experts",
    "active_experts",
    "query_norm",
    "query_norm_isoflop",
    "equal_time",
    "equal_parameters",
    "router_flops",
    "keys",
    "scores",
    "init",
    "sparse_layers",
    "usage",
    "causality",
)


@click.command(name="paper", help=__doc__)
@click.option("--profile", default="tiny", show_default=True, help="smoke, tiny, small or paper")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(ARTEFACTS),
    help="only this suite; repeatable",
)
@how_options
def command(
    profile: str, only: tuple[str, ...], evaluations: tuple[str, ...], plan: bool, **given: Any
) -> int:
    from suites.registry import load, profile_of
    from suites.sweep.pool import Crew
    from suites.sweep.run import How, sweep

    suites = [suite for suite in ARTEFACTS if not only or suite in only]
    chosen = {suite: profile_of(suite, load(suite).PROFILES, profile) for suite in suites}
    hows = {
        suite: How(evaluations=evaluations if suite == "table1" else (), **given)
        for suite in chosen
    }
    if plan:
        print_plans(profile, chosen, hows)
        return 0
    status = 0
    with Crew() as crew:
        for suite, own in chosen.items():
            status = max(status, sweep(suite, profile, own, hows[suite], crew))
    how = next(iter(hows.values()))
    finish(profile, list(chosen), how.store(), how.wide)
    return status


def print_plans(profile: str, chosen: dict[str, Any], hows: dict[str, Any]) -> None:
    """Each suite's plan, and what they cost together when every run is made once."""
    from suites.sweep.plan import Plan, Rates, total_text

    rates = Rates.of(next(iter(hows.values())).store())
    plans = []
    for suite, own in chosen.items():
        plans.append(Plan(suite, profile, own, hows[suite], rates))
        say(f"# {suite}\n\n{plans[-1].text()}\n")
    say(total_text(profile, plans))


def finish(profile: str, suites: list[str], store: Any, wide: bool) -> None:
    """The verdicts, where everything lies, and a digest that a repetition has again."""
    from suites.measure.environment import code, environment
    from suites.paper import claims
    from suites.records.store import read
    from suites.tables import TABLES
    from suites.verbs.claims import made

    where = code(), environment()
    files = {suite: store.scratch(suite, profile, *where) for suite in suites}
    sheets = [
        s for suite, folder in files.items() for s in TABLES[suite]([read(folder / "records.json")])
    ]
    verdicts = claims.sheet(profile, made(store, profile))
    folder = store.scratch("claims", profile, *where)
    verdicts.write(folder, latex=True)
    say(verdicts.printed(wide), **verdicts.data())
    for path in (*files.values(), folder):
        say(f"tables and figures: {path}", wrote=str(path))
    content = "".join(sheet.repeatable() for sheet in [*sheets, verdicts])
    times = sorted({column for sheet in sheets for column in sheet.measured})
    digest = hashlib.sha256(content.encode()).hexdigest()
    say(f"measured, and different in a repetition: columns {', '.join(times)}", measured=times)
    say(f"all other columns: sha256 {digest}", sha256=digest)
