"""Run a suite; what finished before is not run again."""

import click

from suites.registry import SUITES, load


class Suites(click.Group):
    """One subcommand per suite, imported when it is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(SUITES)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return load(name).command if name in SUITES else None


@click.group(cls=Suites, help=__doc__)
def command() -> None:
    pass
