"""How a method looks in every figure: one colour and marker each, told apart without colour too.

The colours are Okabe and Ito's (Color Universal Design, 2008), which the colour-blind can tell apart.
"""

import textwrap
from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# layer, operation or rival → name, colour, marker
METHODS = {
    "dense": ("dense", "#000000", "o"),
    "dense_glu": ("dense GLU", "#7f7f7f", "s"),
    "expert_choice": ("MoE, expert choice", "#E69F00", "D"),
    "topk_moe": ("MoE, top-k", "#009E73", "^"),
    "pkm": ("PKM", "#56B4E9", "v"),
    "peer": ("PEER", "#D55E00", "P"),
    "fine_grained_moe": ("fine-grained MoE", "#8C564B", "X"),
    "sparsely_gated_linear": ("sgatlin", "#9467BD", "p"),
    "memory_plus": ("Memory+", "#17BECF", "h"),
    "ultramem_v2": ("UltraMemV2", "#BCBD22", "d"),
    "peer_pytorch": ("PEER-pytorch", "#CC79A7", "<"),
    "product_key_memory": ("product-key-memory", "#0072B2", ">"),
    "experts": ("PEER's experts", "#D55E00", "P"),
    "retrieve": ("PEER's retrieval", "#D55E00", "P"),
    "bag": ("PKM's bag", "#56B4E9", "v"),
    "embedding_bag": ("torch's embedding bag", "#0072B2", "<"),
    "grouped_mm": ("grouped GEMM", "#009E73", "^"),
}
# For what is not listed above, in the order in which a figure meets it.
OTHERS = (("#637939", "*"), ("#843C39", "H"), ("#7B4173", "8"), ("#393B79", "1"))
DASHES = ("-", "--", ":", "-.")  # of the variants of one method


def styles(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Arguments of a line for each label, a method's name with what tells its variants apart."""
    found: dict[str, dict[str, Any]] = {}
    seen: dict[str, int] = {}
    unlisted: dict[str, tuple[str, str]] = {}
    for label in dict.fromkeys(labels):
        method, _, rest = label.partition(" ")
        if method not in METHODS:
            unlisted.setdefault(method, OTHERS[len(unlisted) % len(OTHERS)])
        name, color, marker = METHODS.get(method, (method, *unlisted.get(method, ("", ""))))
        number = seen[method] = seen.get(method, -1) + 1
        found[label] = {
            "color": color,
            "marker": marker,
            "linestyle": DASHES[number % len(DASHES)],
            "fillstyle": "full" if number == 0 else "none",
            "label": f"{name} {rest}".strip(),
        }
    return found


def points(style: dict[str, Any]) -> dict[str, Any]:
    """The style of a method's points, without its line."""
    return style | {"linestyle": "none"}


def titled(figure: Figure, sentence: str) -> None:
    """The sentence above all panels, in as many lines as the figure's width asks for."""
    letters = int(figure.get_figwidth() * 12)
    figure.suptitle("\n".join(textwrap.wrap(sentence, letters)), fontsize="medium")


def keyed(figure: Figure) -> None:
    """One legend of all panels, below them, so that it hides nothing."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    columns = max(1, int(figure.get_figwidth() / 2.4))
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=columns,
        fontsize="small",
    )


def plain_numbers(axes: Axes, axis: str) -> None:
    """Ticks of a logarithmic axis as plain numbers at 1, 2 and 5: 0.5, 20, 1,000."""
    own = axes.xaxis if axis == "x" else axes.yaxis
    own.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    own.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    own.set_minor_formatter(NullFormatter())
