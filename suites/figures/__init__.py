"""Figures made of records alone: SVG whose bytes do not change from run to run, and PNG."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from suites.records.figures import arms, flops, isoflop, speed
from suites.records.record import ResultFile

# suite → the figures made of all its result files of one profile, by file name
FIGURES: dict[str, Callable[[list[ResultFile]], dict[str, Figure]]] = {
    "flops": flops.figures,
    "isoflop": isoflop.figures,
    "number_of_experts": arms.against("N", "number of experts N", powers=True),
    "active_experts": arms.against("h", "heads h", lines="hk"),
    "query_norm": arms.pairs,
    "query_norm_isoflop": isoflop.figures,
    "equal_time": arms.intervals,
    "equal_parameters": arms.intervals,
    "router_flops": arms.intervals,
    "keys": arms.intervals,
    "scores": arms.intervals,
    "init": arms.intervals,
    "sparse_layers": arms.intervals,
    "usage": arms.over_training,
    "layer_speed": speed.figures,
    "decode_speed": speed.figures,
    "retrieval_speed": speed.figures,
    "experts_speed": speed.figures,
    "model_speed": speed.figures,
}


def save(figure: Figure, stem: Path) -> list[Path]:
    """Writes `stem`.svg and `stem`.png, with ids from a fixed salt and without a date."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png")]
    with mpl.rc_context({"svg.hashsalt": "peer-suite", "svg.fonttype": "none"}):
        figure.savefig(paths[0], metadata={"Date": None})
        figure.savefig(paths[1], dpi=120, metadata={"Software": None})
    return paths
