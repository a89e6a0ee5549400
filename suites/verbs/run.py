"""Run a suite; what finished before is not run again.

Exit status: 1 when a case failed, 3 when none did but the conditions under which one was timed were not
its own; its record says why. Else those of every verb.
"""

import click

from suites.output import with_json
from suites.registry import SUITES, load


class Suites(click.Group):
    """One subcommand per suite, imported when it is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(SUITES)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return with_json(load(name).command)  # raises UserError with the names that there are


@click.group(cls=Suites, help=__doc__)
def command() -> None:
    pass
