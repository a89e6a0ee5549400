"""The table of a speed suite: groups of comparable rows, with ratios to dense and to the best."""

from statistics import median

import pandas as pd

from suites.errors import UserError
from suites.records.budget import Budget
from suites.records.names import CONTROLS, row_words
from suites.records.record import Record, ResultFile
from suites.tables.sentences import between, counted, several
from suites.tables.sheet import Sheet

FORMATS = {
    "median ms": ",.4g",
    "q1 ms": ",.4g",
    "q3 ms": ",.4g",
    "warm L2 ms": ",.4g",
    "× dense": ".2f",
    "× best": ".2f",
    "tokens/s": ",.4g",
    "GFLOP/s": ",.4g",
    "GB/s": ",.4g",
    "% GEMM": ".1f",
    "% copy": ".1f",
    "× floor": ".2f",
    "peak MiB": ",.1f",
    "kept MiB": ",.1f",
    "unique experts": ",.0f",
    "error": ".1e",
    "mismatch": "+.2%",
}
# budget kind → the metric that states it; bytes are those of uniform routing, known before any run
STATED = {
    "forward_flops": "forward_flops",
    "active_parameters": "active_parameters",
    "bytes_moved": "uniform_bytes_moved",
}
GROUPED_BY = (
    "phase", "matched", "dtype", "routing", "dim", "experts", "active_experts", "tokens",
)  # fmt: skip


def sheets(files: list[ResultFile]) -> list[Sheet]:
    """One row per cell; refuses a comparison whose rows are not matched as their cells declare."""
    rows = pd.DataFrame([flat(file, record) for file in files for record in file.records])
    rows["mismatch"] = None
    for _, group in rows.groupby(["run", "group"], sort=False):
        done = group[group["status"] == "ok"]
        if done.empty or done["layer"].isin(CONTROLS).all():
            continue
        dense = done.loc[(done["layer"] == "dense") & (done["repeat"] == 0), "median ms"]
        best = done.loc[done["repeat"] == 0, "median ms"].min()
        rows.loc[done.index, "× best"] = done["median ms"] / best
        if not dense.empty:
            rows.loc[done.index, "× dense"] = done["median ms"] / dense.iloc[0]
        for row, gap in mismatches(done).items():
            rows.loc[done.index[done["row"] == row], "mismatch"] = gap
    rows = rows.sort_values(["run", "order", "median ms", "row"], na_position="last")
    shown = ["group", "row", *FORMATS, "status", "run"]
    whole = Sheet(
        title=f"{files[0].suite}, profile {files[0].profile}",
        frame=rows[shown].reset_index(drop=True),
        says=fastest(rows),
        formats=FORMATS,
        terminal=["group", "row", "median ms", "× dense", "× best", "peak MiB", "status"],
        notes=notes(files, rows),
    )
    return [whole]


def fastest(rows: pd.DataFrame) -> str:
    """Which row is the fastest of how many groups, and where PEER stands against dense."""
    done = rows[(rows["status"] == "ok") & (rows["repeat"] == 0) & (rows["group"] != "controls")]
    if done.empty:
        return "No cell was timed to its end."
    groups = done.groupby(["run", "group"], sort=False)["median ms"]
    won = counted(done.loc[groups.idxmin(), "row"])
    said = f"The fastest of {several(groups.ngroups, 'group')}: {won}"
    ours = done.loc[(done["row"] == "peer auto") & done["× dense"].notna(), "× dense"].astype(float)
    if ours.empty:
        return f"{said}."
    return f"{said}; peer auto takes {between(ours)} times as long as dense."


def mismatches(group: pd.DataFrame) -> dict[str, float]:
    """Relative difference from PEER's row in the quantity that the group's cells declare equal."""
    kind = group["matched"].iloc[0]
    if kind is None:
        return {}
    stated = group.dropna(subset=["stated"])
    peer = stated[stated["layer"] == "peer"]
    if stated.empty:
        return {}
    reference = (peer if not peer.empty else stated)["stated"].iloc[0]
    try:
        return Budget(kind=kind, reference=reference).check(
            dict(zip(stated["row"], stated["stated"], strict=True))
        )
    except UserError as error:
        raise UserError(f"{group['group'].iloc[0]}: {error}") from error


def flat(file: ResultFile, record: Record) -> dict:
    assert file.code is not None
    assert file.environment is not None
    case, metrics = record.case, record.metrics
    commit = (file.code.commit or "none")[:8] + ("+dirty" if file.code.dirty else "")
    in_ms = {"median ms": "median_s", "q1 ms": "quartile1_s", "q3 ms": "quartile3_s"}
    in_ms |= {"warm L2 ms": "warm_l2_median_s"}
    scaled = {
        "GFLOP/s": ("flops_per_s", 1e-9),
        "GB/s": ("bytes_per_s", 1e-9),
        "peak MiB": ("peak_bytes", 2**-20),
        "kept MiB": ("activation_bytes", 2**-20),
        "tokens/s": ("tokens_per_s", 1),
        "% GEMM": ("percent_of_gemm_roof", 1),
        "% copy": ("percent_of_copy_roof", 1),
        "× floor": ("time_over_floor", 1),
        "unique experts": ("unique_experts", 1),
        "error": ("relative_error", 1),
    }
    control = case["layer"] in CONTROLS
    return {
        "group": "controls" if control else group_name(case),
        "order": () if control else tuple(str(case[key]).zfill(9) for key in GROUPED_BY),
        "row": row_name(case),
        "layer": case["layer"],
        "repeat": case["repeat"],
        "matched": None if control else case["matched"],
        "stated": metrics.get(STATED.get(str(case["matched"]), "")),
        "× dense": None,
        "× best": None,
        **{column: scale(metrics.get(name), 1e3) for column, name in in_ms.items()},
        **{column: scale(metrics.get(name), by) for column, (name, by) in scaled.items()},
        "status": record.status,
        "reason": record.reason,
        "run": f"{commit} on {file.environment.machine[:8]}",
    }


def scale(value: object, factor: float) -> float | None:
    return value * factor if isinstance(value, int | float) else None


def group_name(case: dict) -> str:
    equal = f", equal {case['matched'].replace('_', ' ')}" if case["matched"] else ""
    return (
        f"{case['phase'].replace('_', ' ')} T={case['tokens']} D={case['dim']} "
        f"N={case['experts']} hk={case['active_experts']} {case['dtype']} {case['routing']}{equal}"
    )


def row_name(case: dict) -> str:
    control = [case["dtype"]] if case["layer"] in CONTROLS else []
    return " ".join(row_words(case) + control + ["again"] * bool(case["repeat"]))


def notes(files: list[ResultFile], rows: pd.DataFrame) -> list[str]:
    lines = []
    for run, _ in rows.groupby("run", sort=False):
        file = next(f for f in files if flat_run(f) == run)
        assert file.environment is not None
        e = file.environment
        machine = f"{e.gpu.name}, driver {e.gpu.driver}" if e.gpu else f"{e.cpu}, {e.cores} cores"
        versions = ", ".join(
            f"{k} {v}" for k, v in sorted(e.packages.items()) if k in ("torch", "triton")
        )
        lines.append(f"{run}: {machine}, {versions}; {repeatability(rows[rows['run'] == run])}")
    differs = {
        record.case["layer"]: record.metrics["differs"]
        for file in files
        for record in file.records
        if "differs" in record.metrics
    }
    lines += [f"{layer} differs from the paper: {what}" for layer, what in sorted(differs.items())]
    lines.append(
        "× dense and × best are ratios of medians within a group; % GEMM and % copy compare with "
        "the controls of the same run; × floor is time over the larger of FLOPs at the GEMM's rate "
        "and compulsory bytes at the copy's, below 1 where data stay in a cache"
    )
    failed = rows[rows["status"] != "ok"]
    return lines + [f"{r.group}, {r.row}: {r.status}, {r.reason}" for r in failed.itertuples()]


def flat_run(file: ResultFile) -> str:
    return flat(file, file.records[0])["run"]


def repeatability(rows: pd.DataFrame) -> str:
    """How far the same cell measured twice in one run lies apart."""
    apart = []
    for _, again in rows[rows["repeat"] == 1].iterrows():
        first = rows[(rows["group"] == again["group"]) & (rows["row"] + " again" == again["row"])]
        if not first.empty and again["status"] == first["status"].iloc[0] == "ok":
            apart.append(abs(again["median ms"] / first["median ms"].iloc[0] - 1))
    return f"one cell twice differs by {median(apart):.1%}" if apart else "no cell measured twice"
