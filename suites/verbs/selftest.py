"""Test the gate itself: silent on identical code, awake to a slowdown of 5 and of 10 percent.

Exit status: 1 when the gate is not as it must be, else those of every verb.
"""

import click

from suites.output import say
from suites.records.commits import Repository
from suites.records.names import CONTROLS
from suites.records.store import RESULTS, Store
from suites.verbs.regress import chosen_device

SLOWDOWNS = (0.05, 0.10)
FALSE_ALARMS_AT_MOST = 0.01
DETECTED_AT_LEAST = 0.90


@click.command(name="selftest", help=__doc__)
@click.option(
    "--gates",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="simulated gates per slowdown",
)
@click.option("--simulate", is_flag=True, help="the simulation only: no quiet machine needed")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), help="default: cuda where there is one"
)
def command(gates: int, simulate: bool, device: str | None) -> int:
    passed = simulated(gates)
    if not simulate:
        passed = measured(chosen_device(device)) and passed
    say(f"the gate {'passed' if passed else 'FAILED'} its self-test", passed=passed)
    return 0 if passed else 1


def simulated(gates: int) -> bool:
    """Rates on the noise model of suites/regress/simulation.py."""
    from suites.regress.simulation import rates

    passed = True
    for slowdown in (0.0, *SLOWDOWNS):
        found = rates(slowdown, gates, seed=0)
        detected = "–" if found.detected is None else f"{found.detected:.1%}"
        say(
            f"simulated {slowdown:+.0%}: {gates} gates, false alarms {found.false_alarm:.1%}, "
            f"detected {detected}, undecided {found.undecided:.1%}",
            simulated_slowdown=slowdown,
            gates=gates,
            false_alarm=found.false_alarm,
            detected=found.detected,
            undecided=found.undecided,
        )
        passed &= found.false_alarm <= FALSE_ALARMS_AT_MOST
        passed &= found.detected is None or found.detected >= DETECTED_AT_LEAST
    return passed


def measured(device: str) -> bool:
    """The checked-out commit against itself, and against itself made slower."""
    from suites.measure.lock import measuring
    from suites.regress.run import Plan, run_gate

    repository = Repository(RESULTS.parent)
    commit = repository.resolve("HEAD")
    passed = True
    for slowdown in (0.0, *SLOWDOWNS):
        plan = Plan(base=commit, head=commit, device=device, quick=True, slowdown=slowdown)
        with measuring(device):
            rows, _, _ = run_gate(plan, repository, Store(RESULTS))
        timed = [row for row in rows if row.metric == "median_s"]
        alarms = {row.cell for row in timed if row.verdict == "SLOWER"}
        ours = {row.cell for row in timed if row.layer not in CONTROLS}
        for row in timed:
            say(
                f"measured {slowdown:+.0%}: {row.cell} {row.ratio:.3f} "
                f"[{row.low:.3f}, {row.high:.3f}] {row.verdict}",
                measured_slowdown=slowdown,
                **row.model_dump(),
            )
        passed &= bool(ours) and alarms == (ours if slowdown else set())
    return passed
