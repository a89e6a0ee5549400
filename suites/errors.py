"""The one exception that a user sees: a sentence saying what was given, what is allowed, what to do."""


class UserError(Exception):
    """Printed without a traceback; the command exits with status 2."""
