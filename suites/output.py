"""Standard output and error that any encoding can carry: what it lacks is spelled in ASCII."""

import codecs
import io
import sys
import unicodedata

LEGIBLE = "legible"  # as `errors` of a stream
SPELLED = {
    "–": "-",
    "—": "-",
    "−": "-",
    "‖": "|",
    "×": "x",
    "·": "*",
    "±": "+-",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "√": "sqrt ",
    "Σ": "sum ",
    "σ": "sigma",
    "ᵀ": "^T",
}


def legible(error: UnicodeError) -> tuple[str, int]:
    """A codec's error handler: the likeness of what cannot be encoded, "?" where there is none."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(SPELLED.get(one) or likeness(one) for one in lost), error.end


def likeness(character: str) -> str:
    """é is e and … is three dots."""
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or "?"


def make_legible() -> None:
    """For both streams of this process."""
    codecs.register_error(LEGIBLE, legible)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=LEGIBLE)
