"""What the pages look like and do: Jinja2 templates, a style sheet and a script."""

import json
from pathlib import Path
from typing import Any

import jinja2

from suites.report.grid import Grid
from suites.report.headline import powers
from suites.report.view import Chart

HERE = Path(__file__).parent


def template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"embedded": embedded, "powers": powers}
    environment.tests["chart"] = lambda block: isinstance(block, Chart)
    environment.tests["grid"] = lambda block: isinstance(block, Grid)
    return environment.get_template(name)


def embedded(value: Any) -> str:
    """JSON that a script element may hold whatever a text in it says."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
