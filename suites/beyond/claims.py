"""What the papers of PEER's successors claim, each with the comparison that tests it here.

Effects are the source's own, in nats where it prints a loss or a perplexity, None where it shows figures
only or another measure.
"""

import math
from collections.abc import Callable
from typing import Any

from suites.analysis.arms import by_seed
from suites.analysis.judgement import paired
from suites.paper.claims import Claim
from suites.paper.evidence import Evidence
from suites.records.cells import Cell, cells, flat
from suites.records.record import ResultFile

NOTE = "paper: the effect that the claim's source prints, at its own sizes and on its own text"

SGATLIN = {"layer": "sparsely_gated_linear"}
OWN = SGATLIN | {
    "options.activation": "none",
    "options.scores": "raw",
    "options.shared_query": True,
    "options.shared_pool": False,
}
PEER, DENSE, TOPK = {"layer": "peer"}, {"layer": "dense"}, {"layer": "topk_moe"}
FINE, ULTRAMEM = {"layer": "fine_grained_moe"}, {"layer": "ultramem_v2"}
ONE_SITE, MORE_SITES = ({"layer": "memory_plus", "number of sites": kind} for kind in ("1", "more"))


def difference(one: dict[str, Any], other: dict[str, Any]) -> Callable[[ResultFile], Evidence]:
    """Loss of the arm that has the fields `one` less that of `other`, by seed."""

    def evidence(file: ResultFile) -> Evidence:
        found = [arm(file, wanted) for wanted in (one, other)]
        if None in found:
            return []
        first, second = (by_seed(cell) for cell in found if cell is not None)
        return paired(first, second)

    return evidence


def arm(file: ResultFile, wanted: dict[str, Any]) -> Cell | None:
    """The one cell of `file` with these fields, dotted as tables have them; None where there is none."""
    matching = [cell for cell in cells(file).values() if wanted.items() <= described(cell).items()]
    return matching[0] if len(matching) == 1 else None


def described(cell: Cell) -> dict[str, Any]:
    sites: Any = cell.case["sites"]
    fields = {name: value for name, value in flat(cell.case).items() if not isinstance(value, list)}
    return fields | {"number of sites": "1" if len(sites) == 1 else "more"}


def claim(
    sentence: str,
    source: str,
    comparison: str,
    one: dict[str, Any],
    other: dict[str, Any],
    **more: Any,
) -> Claim:
    return Claim(
        sentence=sentence,
        source=source,
        suite="successors",
        comparison=comparison,
        evidence=difference(one, other),
        **more,
    )


CLAIMS: tuple[Claim, ...] = (
    claim(
        "sgatlin is below PEER at equal FLOPs and, unlike in its paper, equal pool",
        "2606.07414, figures",
        "sgatlin − PEER",
        OWN,
        PEER,
    ),
    claim(
        "sgatlin is below dense at equal FLOPs",
        "2606.07414, figures",
        "sgatlin − dense",
        OWN,
        DENSE,
    ),
    claim(
        "sgatlin is below a mixture of experts with the two best of them",
        "2606.07414, figures",
        "sgatlin − top-k MoE",
        OWN,
        TOPK,
    ),
    claim(
        "linear experts are better than experts with GELU",
        "2606.07414, 18.19 against 20.84",
        "sgatlin without − with GELU",
        OWN,
        OWN | {"options.activation": "gelu"},
        effect=math.log(20.84 / 18.19),
    ),
    claim(
        "one query for all heads is better than PEER's one per head",
        "2606.07414, 18.19 against 18.30 with all of PEER's router",
        "sgatlin with one query − with one per head",
        OWN,
        OWN | {"options.shared_query": False},
        effect=math.log(18.30 / 18.19),
    ),
    claim(
        "raw scores are better than a softmax over them",
        "2606.07414, 18.19 against 18.30 with all of PEER's router",
        "sgatlin with raw scores − with softmax",
        OWN,
        OWN | {"options.scores": "softmax"},
        effect=math.log(18.30 / 18.19),
    ),
    claim(
        "a pool per head is better than one for all",
        "2606.07414, by its design",
        "sgatlin with pools − with one pool",
        OWN,
        OWN | {"options.shared_pool": True},
    ),
    claim(
        "Memory+ is below PEER at equal parameters",
        "2412.09764, table 1, in answers right",
        "Memory+ in several blocks − PEER",
        MORE_SITES,
        PEER,
    ),
    claim(
        "Memory+ is better in three blocks than in one, its table the same size",
        "2412.09764, table 3: 2.08 against 2.11",
        "Memory+ in several blocks − in one",
        MORE_SITES,
        ONE_SITE,
        effect=0.03,
    ),
    claim(
        "UltraMemV2 is below Memory+",
        "2508.18756, table 3: 2.853 against 2.920",
        "UltraMemV2 − Memory+ in several blocks",
        ULTRAMEM,
        MORE_SITES,
        effect=2.920 - 2.853,
    ),
    claim(
        "UltraMemV2 is level with a mixture of 64 experts, 8 a token",
        "2508.18756, table 3: 2.853 against 2.845",
        "UltraMemV2 − fine-grained MoE",
        ULTRAMEM,
        FINE,
        kind="same",
    ),
    claim(
        "a fine-grained mixture is below dense",
        "2507.17702, at its own budgets",
        "fine-grained MoE − dense",
        FINE,
        DENSE,
    ),
    claim(
        "a fine-grained mixture is better than PEER",
        "2602.05711, table 1: 50.2 against 48.9 % right",
        "fine-grained MoE − PEER",
        FINE,
        PEER,
    ),
)
