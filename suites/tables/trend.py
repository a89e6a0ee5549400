"""Tables of effect against compute: each difference at each budget, its trend, and a law per method."""

import math
from typing import Any

import pandas as pd

from suites.analysis.curves import Curve, curves
from suites.analysis.trend import UNIT_FLOPS, Difference, Line, differences, law, line
from suites.records.published import table1
from suites.records.record import ResultFile
from suites.tables.isoflop import troubles
from suites.tables.sentences import listed, of_peer
from suites.tables.sheet import Sheet
from suites.tables.training import described

ONE = "peer"
OTHERS = ("dense", "expert_choice", "topk_moe", "pkm")
PAPER_FLOPS = (6e18, 2e19)
TEXT = "c4"
ESTIMATOR = (
    "optimal loss: per seed the minimum of the parabola through its ladder of sizes, held within the "
    "ladder; with fewer than three sizes the lowest of them"
)


def sheets(files: list[ResultFile]) -> list[Sheet]:
    """Differences by budget, then trends, then laws; refuses runs that miss their budget by 2 %."""
    found = curves(files)
    title = f"{files[0].suite}, profile {files[0].profile}"
    by_other = {other: rows for other in OTHERS if (rows := differences(found, ONE, other))}
    records = [record for file in files for record in file.records]
    notes = [ESTIMATOR, *described(files), *troubles(records)]
    made = [at_budgets(title, found, by_other, notes), trends(title, by_other), laws(title, found)]
    return [sheet for sheet in made if sheet is not None]


def at_budgets(
    title: str, found: list[Curve], by_other: dict[str, list[Difference]], notes: list[str]
) -> Sheet:
    losses = optimal_losses(found)
    rows = []
    for other, differing in by_other.items():
        for one in differing:
            runs = next(
                c for c in reversed(found) if (c.label, c.budget_flops) == (ONE, one.budget_flops)
            )
            seen = one.interval
            rows.append(
                {
                    "method": other,
                    "budget": one.budget_flops,
                    "sizes": len(runs.points),
                    "steps": int(runs.points["steps"].min()),
                    "seeds": seen.seeds,
                    "peer (nats/token)": losses[ONE][one.budget_flops],
                    "method (nats/token)": losses[other][one.budget_flops],
                    "peer − method": seen.mean,
                    "low": seen.low,
                    "high": seen.high,
                    "± (std)": seen.deviation,
                    "without optimum": one.unfit or "",
                    "commit": runs.commit,
                }
            )
    signed = dict.fromkeys(("peer − method", "low", "high"), "+.4f")
    plain = dict.fromkeys(("peer (nats/token)", "method (nats/token)", "± (std)"), ".4f")
    largest = max(one.budget_flops for differing in by_other.values() for one in differing)
    there = {
        other: one.interval
        for other, differing in by_other.items()
        for one in differing
        if one.budget_flops == largest
    }
    return Sheet(
        title=f"{title}: PEER less each method at its compute-optimal size",
        name="differences",
        frame=pd.DataFrame(rows),
        says=f"At {largest:.2g} FLOPs, each at its best size, {of_peer(there)}",
        formats={"budget": ".2g", "steps": ",.0f", **signed, **plain},
        brief=["method", "budget", "steps", "seeds", "peer − method", "low", "high"],
        notes=[
            "low and high bound the 95 % interval, paired by seed; below 0 PEER is better",
            *notes,
        ],
    )


def trends(title: str, by_other: dict[str, list[Difference]]) -> Sheet | None:
    fitted = {other: found for other, rows in by_other.items() if (found := line(rows))}
    if not fitted:
        return None
    rows = [trend(other, by_other[other], found) for other, found in fitted.items()]
    columns = [column for column in rows[0] if "peer − method" in column or "paper" in column]
    signed = [*columns, "nats per decade", "low", "high"]
    signed += [f"{side} at {budget:.0e}" for budget in PAPER_FLOPS for side in ("low", "high")]
    zero = ["zero at", "zero, low", "zero, high"]
    return Sheet(
        title=f"{title}: the trend of each difference",
        name="trend",
        frame=pd.DataFrame(rows),
        says="With ten times the compute PEER less "
        + listed(
            [
                f"{row['method']} moves by {row['nats per decade']:+.3f} nats "
                f"({row['low']:+.3f} … {row['high']:+.3f})"
                for row in rows
            ]
        )
        + "; where the interval holds 0, it may not move.",
        formats=dict.fromkeys(signed, "+.4f") | dict.fromkeys(zero, ".1e") | {"decades": ".1f"},
        brief=["method", "decades", "nats per decade", "low", "high", "zero at", *columns],
        notes=[
            "a straight line in log10 of training FLOPs through all seeds; low and high bound 95 %",
            "zero at: the budget from which the sign turns, with Fieller's interval where it has ends",
            "values at the paper's budgets are extrapolated over decades in which no line can hold",
            "the paper's are of another text",
        ],
    )


def trend(other: str, rows: list[Difference], found: Line) -> dict[str, Any]:
    slope, (zero, low, high) = found.slope(), found.crossing()
    row: dict[str, Any] = {
        "method": other,
        "budgets": len(rows),
        "decades": math.log10(rows[-1].budget_flops / rows[0].budget_flops),
        "nats per decade": slope.mean,
        "low": slope.low,
        "high": slope.high,
        "zero at": zero,
        "zero, low": low,
        "zero, high": high,
    }
    for rank, budget in enumerate(PAPER_FLOPS):
        far = found.at(budget)
        row |= {
            f"peer − method at {budget:.0e}": far.mean,
            f"low at {budget:.0e}": far.low,
            f"high at {budget:.0e}": far.high,
            f"paper at {budget:.0e}": published(other, rank),
        }
    return row


def published(other: str, rank: int) -> float | None:
    """The paper's difference on C4 at its budget of that rank, in nats per token."""
    paper = list(table1().values())
    if rank >= len(paper) or other not in paper[rank]:
        return None
    return math.log(paper[rank][ONE][TEXT] / paper[rank][other][TEXT])


def laws(title: str, found: list[Curve]) -> Sheet | None:
    rows = []
    for method, losses in optimal_losses(found).items():
        if (fitted := law(losses)) is not None:
            rows.append(
                {
                    "method": method,
                    "budgets": len(losses),
                    "floor (nats/token)": fitted.floor,
                    "scale (nats/token)": fitted.scale,
                    "exponent": fitted.exponent,
                    "residual (nats)": fitted.residual_nats,
                    **{f"loss at {budget:.0e}": fitted.at(budget) for budget in PAPER_FLOPS},
                }
            )
    if not rows:
        return None
    frame = pd.DataFrame(rows).set_index("method", drop=False)
    lowest = [
        f"{frame[f'loss at {budget:.0e}'].idxmin()}'s at {budget:.0e} FLOPs"
        for budget in PAPER_FLOPS
    ]
    return Sheet(
        title=f"{title}: a scaling law per method",
        name="laws",
        frame=frame,
        says=f"By these laws, extrapolated, the lowest loss is {listed(lowest)}.",
        formats=dict.fromkeys([c for c in rows[0] if c not in ("method", "budgets")], ".4f"),
        brief=list(rows[0]),
        notes=[
            f"optimal loss = floor + scale · (FLOPs / {UNIT_FLOPS:.0e})^−exponent, on means over seeds",
            "three numbers from few budgets: read the differences, not these",
        ],
    )


def optimal_losses(found: list[Curve]) -> dict[str, dict[float, float]]:
    """Method → budget → mean over seeds of the optimal loss; of several commits the last."""
    losses: dict[str, dict[float, float]] = {}
    for curve in found:
        if by_seed := curve.loss_by_seed():
            mean = sum(by_seed.values()) / len(by_seed)
            losses.setdefault(curve.label, {})[curve.budget_flops] = mean
    return losses
