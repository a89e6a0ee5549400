"""Places as users name them, made absolute where they are named: workers run in another folder."""

from pathlib import Path

import click

from suites.errors import UserError


def place(given: str | Path) -> Path:
    """`given` with ~ expanded, from the current folder on; it need not exist.

    Raises UserError where nothing can be: a home that is not known, a name that is too long, a folder
    that may not be searched.
    """
    try:
        path = Path(given).expanduser().absolute()
    except (OSError, RuntimeError) as error:  # the latter for ~NAME of nobody
        raise UserError(f"{given} names no place: {error}") from error
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise UserError(f"cannot use {path}: {error.strerror}; name another place") from error
    except ValueError as error:  # a name with a null byte
        raise UserError(f"{str(given)!r} names no place: {error}") from error
    return path


class PlaceType(click.ParamType):
    """A path on the command line, absolute from there on."""

    name = "path"

    def convert(
        self, value: str | Path, param: click.Parameter | None, context: click.Context | None
    ) -> Path:
        return place(value)


PLACE = PlaceType()
