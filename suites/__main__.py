"""python -m suites VERB: every use of the suite is one of these verbs; nox sessions wrap them."""

import importlib
import signal
import sys

import click

from suites.errors import UserError

VERBS = (
    "list",
    "run",
    "paper",
    "claims",
    "trace",
    "match",
    "tables",
    "figures",
    "publish",
    "compare",
    "history",
    "regress",
    "selftest",
)


class Verbs(click.Group):
    """Imports a verb when it is called, so that `tables` runs where torch is not installed."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        return importlib.import_module(f"suites.verbs.{name}").command


@click.group(cls=Verbs, help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def run() -> int:
    """Exit status: 0 done, 1 a recorded failure, 2 bad input, 130 interrupted; verbs may add their own."""
    try:
        return main(standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return 2
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; what finished is kept, and the same command continues", err=True)
        return 130


if __name__ == "__main__":
    sys.exit(run())
