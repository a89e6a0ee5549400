"""What there is: layers, suites and profiles."""

import inspect
import textwrap

import click

from suites.output import say

WIDTH, INDENT = 80, " " * 4


@click.command(name="list", help=__doc__)
def command() -> None:
    from suites.layers import LAYERS, resolve_options
    from suites.registry import SUITES, load

    say("layers")
    for name, layer in LAYERS.items():
        options = resolve_options(name, {})
        about = paragraph(getattr(layer, "func", layer))
        detail = ", ".join(f"{k}={v!r}" for k, v in options.items())
        say(entry(name, about, detail), layer=name, about=about, options=options)
    say("suites")
    for name in SUITES:
        module = load(name)
        about, profiles = paragraph(module), list(module.PROFILES)
        detail = f"profiles: {', '.join(profiles)}"
        say(entry(name, about, detail), suite=name, about=about, profiles=profiles)


def paragraph(documented: object) -> str:
    """The first of its documentation."""
    return (inspect.getdoc(documented) or "").split("\n\n")[0]


def entry(name: str, *texts: str) -> str:
    """A name, and below it texts as wide as a terminal."""
    lines = [f"  {name}"]
    for text in texts:
        wrapped = textwrap.wrap(text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
        lines.append("\n".join(wrapped))
    return "\n".join(lines)
