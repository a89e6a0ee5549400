"""Records that lack what a table, a figure or a verdict is made of: whose they are, and what is missing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydantic import ValidationError

from suites.errors import UserError
from suites.records.record import ResultFile


@contextmanager
def whole(files: Sequence[ResultFile]) -> Iterator[None]:
    """Raises UserError for a field of a case, or a metric, that is not there or not of its kind."""
    try:
        yield
    except (KeyError, ValidationError) as error:
        missing = (
            f"no {error.args[0]}" if isinstance(error, KeyError) else f"an unfit case: {error}"
        )
        raise UserError(
            f"a record of {files[0].suite}, profile {files[0].profile}, has {missing}; other code or "
            "another hand made it: delete it and run again"
        ) from error
