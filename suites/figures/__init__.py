"""Figures made of records alone: SVG whose bytes do not change from run to run, and PNG."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from suites.records.record import ResultFile
from suites.registry import SUITES, named
from suites.tables.whole import whole


def made_by(function: str) -> Callable[[list[ResultFile]], dict[str, Figure]]:
    """A line of the registry; raises UserError for records without what the figure needs."""
    make = named("figures", function)

    def figures(files: list[ResultFile]) -> dict[str, Figure]:
        with whole(files):
            return make(files)

    return figures


# suite → the figures made of all its result files of one profile, by file name
FIGURES = {name: made_by(suite.figures) for name, suite in SUITES.items() if suite.figures}


def save(figure: Figure, stem: Path) -> list[Path]:
    """Writes `stem`.svg and `stem`.png, with ids from a fixed salt and without a date."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png")]
    with mpl.rc_context({"svg.hashsalt": "peer-suite", "svg.fonttype": "none"}):
        figure.savefig(paths[0], metadata={"Date": None})
        figure.savefig(paths[1], dpi=120, metadata={"Software": None})
    return paths
