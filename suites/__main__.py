"""python -m suites VERB: every use of the suite is one of these verbs; nox sessions wrap them.

Exit status of every verb: 0 done, 1 a recorded failure, 2 bad input, 70 a fault of the suite itself,
74 output that could not be written, 130 interrupted. `compare` and `regress` add 3 and 4.
Every verb takes --json.
"""

import errno
import importlib
import importlib.metadata
import os
import signal
import sys
import traceback
from pathlib import Path

from suites.errors import UserError, not_installed

try:
    import click

    from suites.output import finish, make_legible, with_json
except ModuleNotFoundError as error:
    print(f"error: {not_installed(error)}", file=sys.stderr)
    sys.exit(2)

NAME = "python -m suites"
VERBS = (
    "list",
    "run",
    "paper",
    "claims",
    "train",
    "plan",
    "trace",
    "tune",
    "gpu",
    "match",
    "tables",
    "figures",
    "report",
    "publish",
    "export",
    "compare",
    "history",
    "regress",
    "selftest",
)
USAGE, FAULT, UNWRITTEN, INTERRUPTED = 2, 70, 74, 130  # 70 and 74 as in <sysexits.h>


class Verbs(click.Group):
    """Imports a verb when it is called, so that `tables` runs where torch is not installed."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        return with_json(importlib.import_module(f"suites.verbs.{name}").command)


def show_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        try:
            version = importlib.metadata.version("peer-suite")
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        click.echo(f"peer-suite {version}, {Path(__file__).parents[1]}")
        context.exit()


@click.group(cls=Verbs, help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=show_version,
    help="Show the version and the folder it runs from.",
)
def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def run() -> int:
    """The exit status; whatever goes wrong ends in one of those that the help names."""
    make_legible()
    try:
        status = called(sys.argv[1:])
        click.echo(nl=False)  # flushes what others printed
    except click.ClickException as error:
        error.show()
        return USAGE
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; what finished is kept, and the same command continues", err=True)
        return INTERRUPTED
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and (lacking := not_installed(error)):
            click.echo(f"error: {lacking}", err=True)
            return USAGE
        if isinstance(error, OSError) and in_echo(error):
            return unwritten(error)
        if isinstance(error, OSError) and error.filename is not None:
            click.echo(f"error: cannot use {error.filename}: {error.strerror}", err=True)
            return USAGE
        return fault()
    return status


def called(arguments: list[str]) -> int:
    """As `main.main` would, which however ends a broken pipe with status 1."""
    try:
        with main.make_context(NAME, arguments) as context:
            status = main.invoke(context) or 0
            finish(context, status)
            return status
    except click.exceptions.Exit as ended:
        return ended.exit_code


def in_echo(error: OSError) -> bool:
    return any(
        frame.f_code is click.echo.__code__ for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def unwritten(error: OSError) -> int:
    """A reader that has seen enough, as `head`, needs no message."""
    if error.errno != errno.EPIPE:
        click.echo(f"error: the output could not be written: {error.strerror}", err=True)
    return UNWRITTEN


def fault() -> int:
    """Of the exception at hand."""
    traceback.print_exc()
    click.echo(
        "error: this is a fault of the suite and not of your input; what finished is kept. "
        f"Please report the lines above, and what `{NAME} --version` says.",
        err=True,
    )
    return FAULT


if __name__ == "__main__":
    ended = run()
    if (
        ended == UNWRITTEN
    ):  # else the interpreter tries again at its end, and has a status of its own
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(ended)
