"""The errors that a user sees: a sentence saying what was given, what is allowed, what to do."""

OWN = ("peer", "baselines", "suites")


class UserError(Exception):
    """Printed without a traceback; the command exits with status 2."""


def not_installed(error: ModuleNotFoundError) -> str | None:
    """What a user does about a package of others that is missing; None for a module of ours."""
    name = (error.name or "").partition(".")[0]
    if name in ("", *OWN):
        return None
    return (
        f"the suites need the package {name}, which is not installed here; they run from a checkout "
        "whose packages are installed: pip install --constraint constraints-cpu.txt --editable '.[suites]'"
    )
