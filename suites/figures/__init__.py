"""Figures made of records alone: SVG whose bytes do not change from run to run, and PNG."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from suites.records.record import ResultFile
from suites.records.store import write_bytes
from suites.registry import SUITES, named
from suites.tables.whole import whole


def made_by(function: str) -> Callable[[list[ResultFile]], dict[str, Figure]]:
    """A line of the registry; raises UserError for records without what the figure needs."""
    make = named("figures", function)

    def figures(files: list[ResultFile]) -> dict[str, Figure]:
        with whole(files):
            return make(files)

    return figures


OFF_TIES = 0.000137  # no binary fraction plus this lies halfway between two thousandths

# suite → the figures made of all its result files of one profile, by file name
FIGURES = {name: made_by(suite.figures) for name, suite in SUITES.items() if suite.figures}


def save(figure: Figure, stem: Path) -> list[Path]:
    """Writes `stem`.svg and `stem`.png."""
    written = []
    for kind, content in rendered(figure).items():
        written.append(stem.with_name(f"{stem.name}.{kind}"))
        write_bytes(written[-1], content)
    return written


def rendered(figure: Figure) -> dict[str, bytes]:
    """The bytes of its SVG and PNG, without a date and without the last bits, which differ between machines.

    matplotlib derives ids from coordinates: they become numbers in their order.
    """
    svg, png = io.BytesIO(), io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "peer-suite", "svg.fonttype": "none"}):
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(png, format="png", dpi=120, metadata={"Software": None})
    text = svg.getvalue().decode()
    for number, name in enumerate(
        dict.fromkeys(re.findall(r'id="([a-zA-Z0-9_]*[0-9a-f]{10})"', text))
    ):
        text = text.replace(f'"{name}"', f'"i{number}"').replace(f"#{name}", f"#i{number}")
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"-?\d+\.\d{4,}", rounded, tag[0]), text)
    return {"svg": text.encode(), "png": png.getvalue()}


def rounded(number: re.Match) -> str:
    """To a thousandth of a point, halves far from a tie: coordinates are sums of binary fractions."""
    return f"{float(number[0]) + OFF_TIES:.3f}"
