"""The paper's Tables 1 and 2, to stand beside ours."""

from functools import cache
from pathlib import Path

from suites.records.store import read

PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published"
TABLE1, TABLE2 = PUBLISHED / "table1.json", PUBLISHED / "table2.json"


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


@cache
def table2() -> dict[tuple[int, str | None], dict[str, float]]:
    """(N, query norm) → metric → value; empty where the suite is installed without results."""
    return {
        (record.case["options"]["experts"], record.case["options"]["query_norm"]): {
            name: float(value)
            for name, value in record.metrics.items()
            if isinstance(value, float | int)
        }
        for record in (read(TABLE2).records if TABLE2.exists() else ())
    }
