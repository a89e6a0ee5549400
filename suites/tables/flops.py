"""The tables of suite `flops`: counts side by side, costs, shares, matches, crossovers, cross-checks."""

import json
from typing import Any

import pandas as pd

from suites.records.budget import Budget
from suites.records.record import Record, ResultFile
from suites.tables.sentences import listed, several
from suites.tables.sheet import Sheet

COUNTERS = {
    "fvcore forward": "forward_flops",
    "torch forward": "forward_flops",
    "torch backward": "backward_flops",
}
COUNTERS_ALONE = ("fvcore", "torch")
MiB = 2**20


def sheets(files: list[ResultFile]) -> list[Sheet]:
    """All tables of a profile; what several commits count alike is printed once."""
    records = pd.DataFrame([flat(record) for file in files for record in file.records])
    keys = records.columns.difference(["options", "backbone"])
    records = records.loc[~records[keys].astype(str).duplicated()]
    tables = dict(list(records.groupby("table")))
    done = {name: rows[rows["status"] == "ok"].copy() for name, rows in tables.items()}
    decoders = done["decoder"].drop(columns=["tokens", "dim"])
    backbones = decoders["backbone"].to_list()
    sizes = {
        "tokens": [backbone["context"] for backbone in backbones],
        "dim": [backbone["dim"] for backbone in backbones],
    }
    decoders = pd.concat([decoders, pd.DataFrame(sizes, index=decoders.index)], axis=1)
    skipped = records[records["status"] == "skipped"]
    profile = files[0].profile
    notes = [f"{r.layer} {r.impl} was not counted: {r.reason}" for r in skipped.itertuples()]
    layers = done["layer"]
    layers = against_dense(layers[layers["sweep"].isna()].astype({"dim": int}))
    return [
        counts(f"flops, profile {profile}: three counts of each layer", "counts", layers, notes),
        counts(
            f"flops, profile {profile}: three counts of a decoder with the layer in its middle block",
            "decoder",
            against_dense(decoders),
            [],
        ),
        costs(layers),
        parts(layers),
        matched(tables["match"]),
        active(layers),
        crossovers(tables["crossover"]),
        chinchilla(tables["chinchilla"]),
    ]


def flat(record: Record) -> dict[str, Any]:
    options: Any = record.case.get("options") or {}
    return {
        **record.case,
        **record.metrics,
        "impl": options.get("impl", "–"),
        "status": record.status,
        "reason": record.reason,
    }


def against_dense(rows: pd.DataFrame) -> pd.DataFrame:
    """With `FORM × dense` beside every form, against the dense row of equal width."""
    dense = rows[rows["layer"] == "dense"].set_index("dim")
    forms = ("forward_flops", "active_parameters", "parameters", "bytes_moved")
    ratios = {f"{form} × dense": rows[form] / rows["dim"].map(dense[form]) for form in forms}
    return pd.concat([rows, pd.DataFrame(ratios)], axis=1)


def counts(title: str, name: str, rows: pd.DataFrame, notes: list[str]) -> Sheet:
    """Closed form beside each counter, and what is left after the listed differences: nothing."""
    tokens = rows["tokens"]
    frame = rows[["layer", "impl", "dim"]].copy()
    frame["closed forward"] = rows["forward_flops"] / tokens
    for counter, form in COUNTERS.items():
        column = counter.replace(" ", "_")
        if form == "backward_flops":
            frame["closed backward"] = rows["backward_flops"] / tokens
        frame[counter] = rows[f"{column}_flops"] / tokens
        frame[f"{counter}, listed"] = rows[f"{column}_listed_flops"] / tokens
        unexplained = rows[f"{column}_flops"] - rows[form] - rows[f"{column}_listed_flops"]
        frame[f"{counter}, unexplained"] = unexplained / tokens
    frame["forward × dense"] = rows["forward_flops × dense"]
    left = [column for column in frame if column.endswith("unexplained")]
    open_ = int((frame[left].fillna(0).abs() > 0).any(axis=1).sum())
    reasons = sorted({r for text in rows["differences"].dropna() for r in text.split("; ") if r})
    return Sheet(
        title=title,
        name=name,
        frame=frame,
        says=f"Closed forms and counters agree to the last FLOP in {len(frame) - open_} of "
        f"{several(len(frame), 'row')}, what is listed counted.",
        formats=dict.fromkeys(frame.columns[3:-1], ",.10g") | {"forward × dense": ".3f"},
        notes=[
            "FLOPs per token, a multiply-add counted as 2; unexplained = counter − closed − listed",
            *(f"listed: {reason}" for reason in reasons),
            *notes,
        ],
    )


def costs(rows: pd.DataFrame) -> Sheet:
    """Bytes, parameters and activations of each layer."""
    frame = rows[["layer", "impl", "dim"]].copy()
    frame["parameters"] = rows["parameters"].astype(int)
    frame["active parameters"] = rows["active_parameters"].astype(int)
    frame["active × dense"] = rows["active_parameters × dense"]
    frame["moved MiB"] = rows["bytes_moved"] / MiB
    frame["moved × dense"] = rows["bytes_moved × dense"]
    frame["forward × dense"] = rows["forward_flops × dense"]
    frame["activations MiB"] = rows["activation_bytes"] / MiB
    frame["saved MiB"] = rows["saved_bytes"] / MiB
    frame["saved / activations"] = rows["saved_bytes"] / rows["activation_bytes"]
    tokens = int(rows["tokens"].iloc[0])
    peer = frame[frame["layer"] == "peer"].drop_duplicates("dim")
    said = [
        f"{row['moved × dense']:.1f} times dense's bytes with {row['forward × dense']:.2f} times its "
        f"FLOPs at d = {row['dim']}"
        for _, row in peer.iterrows()
    ]
    return Sheet(
        title="Parameters, bytes and activations of each layer",
        name="costs",
        frame=frame,
        says=f"PEER moves {listed(said)}." if said else "PEER was not counted.",
        formats={
            "parameters": ",d",
            "active parameters": ",d",
            "active × dense": ".3f",
            "moved MiB": ",.1f",
            "moved × dense": ".2f",
            "forward × dense": ".3f",
            "activations MiB": ",.1f",
            "saved MiB": ",.1f",
            "saved / activations": ".1f",
        },
        notes=[
            f"one forward call with {tokens:,} tokens in float32, uniform routing",
            "moved: a part's operands read once, its results written once, a distinct row or expert once",
            "activations: what backward cannot do without; saved: what autograd keeps with this impl",
        ],
    )


def parts(rows: pd.DataFrame) -> Sheet:
    """The share of each part; one implementation, since shares are those of the closed forms."""
    shares = []
    for _, row in rows.drop_duplicates(["layer", "dim"]).iterrows():
        for column in rows.columns:
            part = column.removesuffix("_forward_flops")
            if part == column or pd.isna(row[column]) or part in COUNTERS_ALONE:
                continue
            shares.append(
                {"layer": row["layer"], "dim": row["dim"], "part": part}
                | {
                    form: row[f"{part}_{form}"] / row[form]
                    for form in ("forward_flops", "bytes_moved", "active_parameters", "parameters")
                }
            )
    frame = pd.DataFrame(shares)
    peer = frame[frame["layer"] == "peer"]
    most = peer.loc[peer.groupby("dim")["forward_flops"].idxmax()]
    said = [
        f"{row['part']} with {row['forward_flops']:.0%} at d = {row['dim']}"
        for _, row in most.iterrows()
    ]
    return Sheet(
        title="Share of each part",
        name="parts",
        frame=frame,
        says=f"The part of PEER with most FLOPs: {listed(said)}."
        if said
        else "PEER was not counted.",
        formats=dict.fromkeys(frame.columns[3:], ".1%"),
        notes=["merge compares and adds scores: no multiply-adds, but bytes"],
    )


def matched(rows: pd.DataFrame) -> Sheet:
    """Rows within the tolerance, checked by the contract; of the others only the reason is printed."""
    found, notes = [], []
    groups: Any = rows.astype({"dim": int}).groupby(["budget", "dim"])
    for (kind, dim), group in groups:
        reference = group[f"reference_{kind}"].iloc[0]
        budget = Budget(
            kind=kind,
            reference=reference,
            row=f"dense ({dim}, {4 * dim})",
            tolerance=group["tolerance"].iloc[0],
        )
        near = group[group["status"] == "ok"]
        costs = dict(zip(near["layer"], near[f"matched_{kind}"], strict=True))
        mismatches = budget.check(costs)
        for row in near.itertuples():
            varied = json.loads(row.varied)
            found.append(
                {
                    "budget": kind,
                    "dim": dim,
                    "layer": row.layer,
                    "varied": ", ".join(f"{n} {a} → {b}" for n, (a, b) in varied.items()) or "none",
                    "dense costs": int(reference),
                    "costs": int(costs[row.layer]),
                    "mismatch": mismatches[row.layer],
                }
            )
        notes += [r.reason for r in group[group["status"] != "ok"].itertuples()]
    frame = pd.DataFrame(found)
    largest = frame["mismatch"].abs().max()
    return Sheet(
        title="Configurations that match the dense layer (d, 4·d)",
        name="matched",
        frame=frame,
        says=f"{several(len(frame), 'configuration')} match dense, the farthest by {largest:.2%}; "
        f"{several(int((rows['status'] != 'ok').sum()), 'search')} found none.",
        formats={"dense costs": ",d", "costs": ",d", "mismatch": "+.2%"},
        notes=[
            f"tolerance {rows['tolerance'].iloc[0]:.0%}; what is not varied keeps the paper's value",
            f"FLOPs and bytes of a call with {int(rows['tokens'].iloc[0]):,} tokens",
            *notes,
        ],
    )


def active(rows: pd.DataFrame) -> Sheet:
    """The paper's statement that PEER has at most the dense layer's active parameters."""
    dense = rows[rows["layer"] == "dense"].set_index("dim")["active_parameters"]
    peer = rows[rows["layer"] == "peer"].drop_duplicates("dim").set_index("dim")
    frame = pd.DataFrame(
        {
            "dim": peer.index,
            "dense": dense.loc[peer.index].astype(int).to_list(),
            "PEER with router": peer["active_parameters"].astype(int).to_list(),
            "PEER without router": peer["experts_active_parameters"].astype(int).to_list(),
        }
    )
    for column in ("PEER with router", "PEER without router"):
        held = frame[column] <= frame["dense"]
        frame[f"{column}: at most dense"] = held.map({True: "yes", False: "no"})
    kept = frame["PEER with router"] <= frame["dense"]
    widths = listed([str(dim) for dim in frame.loc[kept, "dim"]]) if kept.any() else "none of these"
    return Sheet(
        title="Active parameters: PEER has at most the dense layer's (paper, section 2.3)",
        name="active",
        frame=frame,
        says=f"With its router PEER has no more active parameters than dense at d = {widths}.",
        formats=dict.fromkeys(("dense", "PEER with router", "PEER without router"), ",d"),
    )


def crossovers(rows: pd.DataFrame) -> Sheet:
    """The smallest width at which PEER costs no more than dense."""
    columns = {
        "router_forward_flops_crossover_width": "router's FLOPs ≤ FFW's",
        "forward_flops_crossover_width": "PEER's FLOPs ≤ FFW's",
        "active_parameters_crossover_width": "active parameters",
        "bytes_moved_crossover_width": "bytes moved",
    }
    frame = rows[["experts", *columns]].rename(columns=columns).astype(int)
    total = columns["forward_flops_crossover_width"]
    said = [
        f"from d = {width:,} on with {experts:,} experts"
        for experts, width in zip(frame["experts"], frame[total], strict=True)
    ]
    return Sheet(
        title="Crossover widths: from here on PEER costs no more than the dense layer (d, 4·d)",
        name="crossovers",
        frame=frame,
        says=f"PEER costs no more FLOPs than dense {listed(said)}.",
        formats=dict.fromkeys(frame.columns, ",d"),
        notes=[
            f"h = 8, k = 16, d_key = 128; bytes of a call with {int(rows['tokens'].iloc[0]):,} tokens"
        ],
    )


def chinchilla(rows: pd.DataFrame) -> Sheet:
    frame = pd.DataFrame(
        {
            "model": rows["model"],
            "parameters": rows["chinchilla_parameters"].astype(int),
            "published FLOPs / 6ND": rows["published_ratio"],
            "blocks only": rows["blocks_ratio"],
            "with embedding and logits": rows["text_ratio"],
        }
    )
    agree = (rows["blocks_ratio"].round(2) == rows["published_ratio"]).map(
        {True: "yes", False: "no"}
    )
    frame.insert(4, "reproduced", agree)
    same = int((agree == "yes").sum())
    return Sheet(
        title="Chinchilla's ratios of FLOPs to 6ND (arXiv 2203.15556, table A4)",
        name="chinchilla",
        frame=frame,
        says=f"{same} of {several(len(frame), 'published ratio')} are reproduced by the blocks alone.",
        formats={
            "parameters": ",d",
            "published FLOPs / 6ND": ".2f",
            "blocks only": ".4f",
            "with embedding and logits": ".4f",
        },
        notes=[
            "N: one embedding matrix, and a matrix d² per block for relative positions",
            "appendix F says that embedding and logits count; its ratios are those without them",
        ],
    )
