"""How large the paper reports each effect, from its Tables 1 and 2; None where they are not at hand."""

import math

import numpy as np

from suites.paper.evidence import USED_PERCENT
from suites.records.published import table1, table2


def gap(one: str, other: str, rank: int, text: str = "c4") -> float | None:
    """How far the paper's `one` lies below its `other`, in nats per token."""
    paper = list(table1().values())
    return math.log(paper[rank][other][text] / paper[rank][one][text]) if paper else None


def gap_to_best(text: str, rank: int) -> float | None:
    others = (gap("peer", other, rank, text) for other in ("dense", "expert_choice", "pkm"))
    return min((found for found in others if found is not None), default=None)


def published(metric: str, sign: int, norm: str | None = "batch") -> float | None:
    """Slope per ×4 in N of the paper's Table 2, times `sign`."""
    found = {N: row[metric] for (N, own), row in table2().items() if own == norm}
    if not found:
        return None
    logged = [math.log(v) if metric == "c4_perplexity" else v for v in found.values()]
    return sign * float(np.polyfit(np.log(list(found)) / math.log(4), logged, 1)[0])


def published_norm(metric: str) -> float | None:
    """How far the paper's Table 2 lies lower with batch norm, mean over N."""
    paper = table2()
    gaps = [paper[N, None][metric] - row[metric] for (N, norm), row in paper.items() if norm]
    return float(np.mean(gaps)) if gaps else None


def published_usage() -> float | None:
    """How far the paper's lowest usage lies above what counts as all experts."""
    usage = [row["expert_usage_percent"] for row in table2().values()]
    return min(usage) - USED_PERCENT if usage else None


def published_norm_nats() -> float | None:
    """The same of its perplexity at 1024² experts, in nats."""
    paper, N = table2(), 1024**2
    if not paper:
        return None
    return math.log(paper[N, None]["c4_perplexity"] / paper[N, "batch"]["c4_perplexity"])
