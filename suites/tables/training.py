"""The table of training runs at one budget: what each method reached, over seeds."""

import pandas as pd

from suites.errors import UserError
from suites.records.budget import Budget
from suites.records.record import ResultFile, digest
from suites.tables.sentences import of_trials
from suites.tables.sheet import Sheet

FORMATS = {
    "learning rate": "g",
    "table rate": "g",
    "parameters": ",.0f",
    "active parameters": ",.0f",
    "forward FLOPs/token": ",.0f",
    "training FLOPs": ".3e",
    "mismatch": "+.2%",
    "tokens": ",.0f",
    "loss (nats/token)": ".4f",
    "± (std)": ".4f",
    "perplexity": ".3f",
    "bits/byte": ".4f",
    "tokens/s": ",.0f",
    "peak MiB": ",.0f",
}

RATES = ("learning rate", "table rate", "table rates")
BRIEF = [
    "method",
    "parameters",
    "forward FLOPs/token",
    "tokens",
    "loss (nats/token)",
    "± (std)",
    "tokens/s",
]


def sheets(files: list[ResultFile]) -> list[Sheet]:
    """One row per method and commit; refuses rows whose training FLOPs differ by more than 2 %."""
    runs = pd.DataFrame([flat(file, record) for file in files for record in file.records])
    finished = runs[runs["status"] == "ok"]
    if finished.empty:
        raise UserError(
            "no finished run to print; failures were: " + "; ".join(sorted(set(runs["reason"])))
        )
    budgets = finished["budget_flops"].unique()
    if len(budgets) > 1:
        raise UserError(
            f"the runs have several budgets ({', '.join(f'{b:.3g}' for b in budgets)} FLOPs)"
        )
    arms = finished.groupby(["arm", "commit"], sort=False)
    rows = arms.agg(
        **{
            "method": ("method", "first"),
            "learning rate": ("learning_rate", "first"),
            "table rate": ("table_rate", "first"),
            "table rates": ("table_rates", "first"),
            "seeds": ("seed", "nunique"),
            "parameters": ("parameters", "first"),
            "active parameters": ("active_parameters", "first"),
            "forward FLOPs/token": ("forward_flops_per_token", "first"),
            "training FLOPs": ("training_flops", "mean"),
            "tokens": ("tokens", "first"),
            "loss (nats/token)": ("validation_loss_nats", "mean"),
            "± (std)": ("validation_loss_nats", "std"),
            "perplexity": ("validation_perplexity", "mean"),
            "bits/byte": ("validation_bits_per_byte", "mean"),
            "tokens/s": ("tokens_per_s", "median"),
            "peak MiB": ("peak_bytes", lambda b: b.max() / 2**20),
        }
    ).reset_index()
    if not rows["table rates"].any():
        rows = rows.drop(columns="table rates")
    budget = Budget(kind="training_flops", reference=float(budgets[0]))
    gaps = budget.check(
        {f"{r['arm']} at {r['commit']}": r["training FLOPs"] for _, r in rows.iterrows()}
    )
    rows.insert(list(rows.columns).index("training FLOPs") + 1, "mismatch", list(gaps.values()))
    rows["profile"] = files[0].profile
    order = [c for c in rows.columns if c not in ("arm", "commit")] + ["commit"]
    failed = runs[runs["status"] != "ok"]
    return [
        Sheet(
            title=f"{files[0].suite}, profile {files[0].profile}",
            frame=rows[order],
            says=of_trials(rows, RATES),
            formats=FORMATS,
            brief=BRIEF,
            terminal=[*BRIEF[:1], *RATES, *BRIEF[1:]]
            if len(rows) > rows["method"].nunique()
            else [],
            measured=["tokens/s", "peak MiB"],
            notes=notes(finished)
            + [f"{r.method}, seed {r.seed}: {r.status}, {r.reason}" for r in failed.itertuples()],
        )
    ]


def flat(file: ResultFile, record) -> dict:
    assert file.code is not None
    case = record.case
    rates = case["optimization"]
    arm = {key: case[key] for key in ("layer", "options", "sites", "optimization")}
    return {
        "arm": f"{case['layer']} {digest(arm)[:8]}",
        "method": case["layer"],
        "learning_rate": rates["learning_rate"],
        "seed": case["seed"],
        "budget_flops": case["budget_flops"],
        "text": case["text"]["source"],
        "tokenizer": case["text"]["tokenizer"],
        "text_sha256": case["text"]["sha256"],
        "threads": case["threads"],
        "device": case["device"],
        "commit": (file.code.commit or "none")[:12] + ("+dirty" if file.code.dirty else ""),
        "status": record.status,
        "reason": record.reason,
        **record.metrics,
        # A layer without tables has no use for their rate.
        "table_rate": rates["table_rate"] if record.metrics.get("table_parameters") else None,
        "table_rates": ", ".join(
            f"{n} {rate:g}" for n, rate in rates.get("table_rates", {}).items()
        ),
    }


def notes(runs: pd.DataFrame) -> list[str]:
    first = on_one_text(runs)
    return [
        text_note(first),
        f"budget: {first['budget_flops']:.3g} training FLOPs per run, within 2 %, router counted",
        f"{device_note(first)}; mean over seeds, ± their standard deviation; median tokens/s; largest peak",
    ]


def described(files: list[ResultFile]) -> list[str]:
    """On what text and device the finished runs of `files` were made, as notes of their tables."""
    runs = (
        flat(file, record) for file in files for record in file.records if record.status == "ok"
    )
    first = on_one_text(pd.DataFrame(runs))
    return [text_note(first), f"{device_note(first)}; training FLOPs within 2 %, router counted"]


def on_one_text(runs: pd.DataFrame) -> pd.Series:
    """The first of `runs`; raises UserError where they do not share their text."""
    if runs["text_sha256"].nunique() > 1:
        raise UserError("the runs were made on different texts; compare them separately")
    return runs.iloc[0]


def text_note(run: pd.Series) -> str:
    return (
        f"text: {run['text']}, tokenizer {run['tokenizer']}, sha256 {run['text_sha256'][:12]}; "
        f"validation on {int(run['evaluation_tokens']):,} tokens"
    )


def device_note(run: pd.Series) -> str:
    return f"device: {run['device']}, {run['threads']} thread(s) per run"
