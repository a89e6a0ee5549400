"""The guide, for Sphinx: `nox -s docs`. Its source is the whole repository, so that a link between files
leads to the same place on GitHub and here.
"""

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import peer  # noqa: E402

project = "peer-suite"
author = copyright = "The peer-suite authors"
version = release = peer.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "results/tables/*.md"]
exclude_patterns = [".*", "build", "dist", "results/records", "results/report", "results/scratch"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["style"]
html_css_files = ["guide.css"]
html_copy_source = html_show_sourcelink = False
pygments_style, pygments_dark_style = "friendly", "github-dark"
highlight_language = "text"
smartquotes_action = "De"  # dashes and dots; the quotes of "batch" are code

# Docstrings are Google's, and a word between single backticks is code.
default_role = "code"
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    # What torch and pydantic call, and no reader does.
    "exclude-members": "extra_repr, failure_has_a_reason, is_whole, model_config, units_are_of_numbers",
}
autodoc_typehints_format = "short"
toc_object_entries_show_parents = "hide"

# There is no network when this is built, so the names of other projects have no page to lead to; nor
# have our own that no reader writes.
nitpick_ignore_regex = [
    ("py:.*", r"(annotated_types|collections|numpy|pydantic|torch|typing)\b.*"),
    ("py:.*", r"(Tensor|ParamsT|nn\.\w+|dict\[str)"),
    ("py:.*", r"peer\.optim\.\w+Step|suites\.records\.record\.Model"),
]


def fields_of(thing: object) -> dict[str, Any]:
    """Of a pydantic model, none of anything else."""
    return getattr(thing, "__pydantic_fields__", {})


def shown(annotation: object) -> str:
    """A type without the modules of its names."""
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    text = re.sub(r"\b(?:\w+\.)+(?=\w)", "", text)
    return re.sub(r"Annotated\[(\w+), [^]]*\]", r"\1", text)


def describe_fields(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """A model lists its fields as its schema has them: type, default, description."""
    for field, info in fields_of(thing).items():
        default = "" if info.is_required() else f", by default ``{info.get_default()!r}``"
        said = f": {info.description}" if info.description else ""
        lines.append(f"- **{field}** (``{shown(info.annotation)}``{default}){said}")
    lines.append("")


def without_signature(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str, returns: str
) -> tuple[str, str] | None:
    """The arguments of a model are its fields, which are listed below it, and a protocol has none."""
    bare = fields_of(thing) or getattr(thing, "_is_protocol", False)
    return ("", "") if what == "class" and bare else None


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", describe_fields)
    app.connect("autodoc-process-signature", without_signature)
