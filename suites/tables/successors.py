"""The successors of PEER: the arms, the published claims with verdicts, and what scaling laws predict."""

from typing import Any

import pandas as pd

from suites.analysis.arms import arms, by_seed
from suites.analysis.judgement import Interval, interval, paired
from suites.analysis.scaling_laws import Mixture, predictions
from suites.records.cells import Cell
from suites.records.record import ResultFile
from suites.registry import load
from suites.tables.arms import form_of, sheet
from suites.tables.sentences import of_peer, several
from suites.tables.sheet import Sheet

PEER = "peer"
# Experts a token always meets, by mixture; the laws speak of no other method.
SHARED = {"topk_moe": 0, "fine_grained_moe": 1}


def sheets(files: list[ResultFile]) -> list[Sheet]:
    suite = files[0].suite
    return [sheet(files, form_of(suite)), methods(files), load(suite).verdicts(files), laws(files)]


def methods(files: list[ResultFile]) -> Sheet:
    """The first arm of each method beside PEER's, the lowest loss first."""
    cells = arms(files, form_of(files[0].suite).comparison)
    first = cells.drop_duplicates("method").sort_values("loss")
    peer = by_seed(first.loc[first["method"] == PEER, "cell"].iloc[0])
    rows, differences = [], {}
    for _, row in first.iterrows():
        gaps = paired(peer, by_seed(row["cell"])) if row["method"] != PEER else []
        found = interval(gaps) if gaps else None
        if found is not None:
            differences[row["method"]] = found
        rows.append(
            {
                "method": row["method"],
                "loss": row["loss"],
                "PEER less it": found and found.mean,
                "±": half(found) if found else None,
                "seeds": row["seeds"],
            }
        )
    return Sheet(
        title=f"{files[0].suite}, profile {files[0].profile}: PEER less each method",
        name="methods",
        frame=pd.DataFrame(rows),
        says=of_peer(differences) if differences else "One method alone.",
        formats={"loss": ".3f", "PEER less it": "+.3f", "±": ".3f"},
        brief=["method", "PEER less it", "±"],
        notes=[
            "nats per token; ± is half the 95 % interval over paired seeds; below 0 PEER is better"
        ],
    )


def half(found: Interval) -> float | None:
    """Half the width of an interval; None where a single seed has none."""
    return None if found.low is None or found.high is None else (found.high - found.low) / 2


def laws(files: list[ResultFile]) -> Sheet:
    """A row per mixture and law: the gap to dense that it predicts and the one that was measured."""
    rows = [
        {
            "method": row["method"],
            "law": predicted.law,
            "predicted (nats)": predicted.gap_nats,
            "measured (nats)": row["difference"],
            "low": row["low"],
            "high": row["high"],
            "remark": predicted.reason,
        }
        for _, row in arms(files, form_of(files[0].suite).comparison).iterrows()
        if row["method"] in SHARED
        for predicted in predictions(mixture(row["cell"]))
    ]
    within = [row for row in rows if not row["remark"]]
    near = [row for row in within if row["low"] <= row["predicted (nats)"] <= row["high"]]
    return Sheet(
        title=f"{files[0].suite}, profile {files[0].profile}: gaps to dense by scaling laws",
        name="laws",
        frame=pd.DataFrame(rows),
        says=f"Of {several(len(rows), 'prediction')} {len(within)} are within their law's range, and the "
        f"interval of what was measured holds {len(near)} of these."
        if within
        else f"This scale is within the range of no law: none of {several(len(rows), 'prediction')} is made.",
        formats=dict.fromkeys(("predicted (nats)", "measured (nats)", "low", "high"), "+.4f"),
        notes=[
            "predicted: between compute-optimal models; measured: in one backbone at one budget",
            "no published law covers single-neuron experts or memories: PEER's granularity is 2·dim",
        ],
    )


def mixture(cell: Cell) -> Mixture:
    case: dict[str, Any] = cell.case
    options, backbone, layer = case["options"], case["backbone"], case["layer"]
    hidden = options["hidden"] or 4 * backbone["dim"] // options["topk"]
    return Mixture(
        budget_flops=case["budget_flops"],
        sparse_share=len(case["sites"]) / backbone["blocks"],
        dim=backbone["dim"],
        hidden=hidden,
        experts=options["experts"],
        active=options["topk"],
        shared=SHARED[layer],
    )
