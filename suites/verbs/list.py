"""What there is: layers, suites and profiles."""

import inspect
import textwrap

import click

WIDTH, INDENT = 80, " " * 4


@click.command(name="list", help=__doc__)
def command() -> None:
    from suites.layers import LAYERS, resolve_options
    from suites.registry import SUITES, load

    click.echo("layers")
    for name, layer in LAYERS.items():
        options = ", ".join(f"{k}={v!r}" for k, v in resolve_options(name, {}).items())
        echo(name, getattr(layer, "func", layer), options)
    click.echo("suites")
    for name in SUITES:
        module = load(name)
        echo(name, module, f"profiles: {', '.join(module.PROFILES)}")


def echo(name: str, documented: object, detail: str) -> None:
    """A name, the first sentence or paragraph of its documentation, and a detail."""
    paragraph = (inspect.getdoc(documented) or "").split("\n\n")[0]
    click.echo(f"  {name}")
    for text in (paragraph, detail):
        lines = textwrap.wrap(text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
        click.echo("\n".join(lines))
