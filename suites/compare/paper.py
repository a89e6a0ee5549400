"""The paper's Table 1 against measured methods: each method's perplexity relative to dense.

Runs of another budget or text can confirm a direction, not a number, so their rows are INVALID and
say whether the direction agrees.
"""

import math
from collections.abc import Iterator

from suites.analysis.statistics import (
    LOSS_MARGIN_NATS,
    LOSS_TOLERANCE_NATS,
    Estimate,
    decide,
    estimate,
)
from suites.compare.sides import Side
from suites.compare.verdict import Row, estimated, verdict
from suites.errors import UserError
from suites.records.cells import Cell, cells
from suites.records.quantity import Quantity
from suites.records.record import ResultFile

REFERENCE = "dense"
LOSS = "validation_loss_nats"
PUBLISHED = "c4_perplexity"


def compare_paper(paper: Side, head: Side) -> list[Row]:
    """One row per published method and budget and per measured file that has it beside dense."""
    published = [ratio for file in paper.files for ratio in published_ratios(file)]
    rows = []
    for file in head.files:
        methods = one_cell_per_layer(file)
        if REFERENCE in methods:
            rows += [
                row(file, case, ratio, methods[layer], methods[REFERENCE])
                for case, ratio in published
                if (layer := str(case["layer"])) in methods
            ]
    if not rows:
        raise UserError(
            f"{head.given} has no records of {REFERENCE} beside another method of the paper; "
            "make some with: python -m suites run methods"
        )
    return rows


def published_ratios(file: ResultFile) -> Iterator[tuple[dict, float]]:
    """Published methods with their C4 perplexity relative to dense at the same budget."""
    dense = {
        record.case["budget_flops"]: float(record.metrics[PUBLISHED] or math.nan)
        for record in file.records
        if record.case["layer"] == REFERENCE
    }
    for record in file.records:
        budget = record.case["budget_flops"]
        if record.case["layer"] != REFERENCE and budget in dense:
            yield record.case, float(record.metrics[PUBLISHED] or math.nan) / dense[budget]


def one_cell_per_layer(file: ResultFile) -> dict[str, Cell]:
    """Layer → its cell; empty for a sweep, where one layer has several."""
    found: dict[str, Cell] = {}
    for cell in cells(file).values():
        layer = str(cell.case.get("layer"))
        if layer in found:
            return {}
        if cell.values(LOSS):
            found[layer] = cell
    return found


def row(file: ResultFile, case: dict, published: float, method: Cell, dense: Cell) -> Row:
    ours, reference = method.values(LOSS), dense.values(LOSS)
    gaps = [
        ours[seed] - reference[seed] - math.log(published) for seed in ours if seed in reference
    ]
    found = estimate(gaps, LOSS_MARGIN_NATS, LOSS_TOLERANCE_NATS) if len(gaps) > 1 else None
    unlike = differing(case, method)
    measured = published * math.exp(sum(gaps) / len(gaps)) if gaps else None
    finding = Row(
        suite=f"{file.suite} {file.profile}",
        cell=f"{case['layer']} at {case['budget_flops']:.0e} FLOPs",
        metric="perplexity / dense",
        base=published,
        head=measured,
        verdict="INVALID" if unlike else "UNDECIDED",
        cause=", ".join([*unlike, direction(published, found)]),
    )
    if found is None:
        return finding
    word = finding.verdict if unlike else verdict(Quantity("loss"), decide({"": found})[""])
    return estimated(finding, found, word)


def differing(case: dict, method: Cell) -> list[str]:
    """What keeps the numbers apart: another budget, another text."""
    unlike = []
    budget, text = method.case.get("budget_flops"), method.case.get("text")
    if budget != case["budget_flops"]:
        unlike.append(f"budget {budget:.0e} FLOPs")
    source = str(text.get("source")) if isinstance(text, dict) else "unknown"
    if case["text"]["source"].lower() not in source.lower():
        unlike.append(f"text {source}")
    return unlike


def direction(published: float, found: Estimate | None) -> str:
    """Whether the measured sign is the published one, where the interval has a sign."""
    if found is None:
        return "direction unknown: fewer than two seeds in common"
    low, high = found.low + math.log(published), found.high + math.log(published)
    if low <= 0 <= high:
        return "direction undecided"
    return "direction agrees" if (high < 0) == (published < 1) else "direction differs"
