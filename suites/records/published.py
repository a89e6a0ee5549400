"""The paper's Table 1, to stand beside ours."""

from functools import cache
from pathlib import Path

from suites.records.store import read

TABLE1 = Path(__file__).resolve().parents[2] / "results" / "published" / "table1.json"


@cache
def table1() -> dict[float, dict[str, dict[str, float]]]:
    """Budget, rising → layer → set → perplexity; empty where the suite is installed without results."""
    found: dict[float, dict[str, dict[str, float]]] = {}
    for record in read(TABLE1).records if TABLE1.exists() else ():
        case = record.case
        found.setdefault(case["budget_flops"], {})[case["layer"]] = {
            name.removesuffix("_perplexity"): float(value)
            for name, value in record.metrics.items()
            if isinstance(value, float | int)
        }
    return dict(sorted(found.items()))
