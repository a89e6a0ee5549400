"""Table 1: each method's compute-optimal model on the paper's five texts, the paper's numbers beside."""

from typing import Any

import pandas as pd

from suites.analysis.curves import Curve, curves
from suites.records.record import ResultFile
from suites.tables.isoflop import published_beside
from suites.tables.sentences import counted, listed, several
from suites.tables.sheet import Sheet
from suites.tables.training import described

# metric prefix → name, in the paper's order
SETS = {
    "curation": "Curation",
    "lambada": "Lambada",
    "pile": "Pile",
    "wikitext": "Wikitext",
    "c4": "C4",
}
MODEL = (
    "per method and budget the rung of the ladder nearest to the fitted optimum; mean over seeds, "
    "± their standard deviation; the paper's budgets stand beside ours in rising order"
)


def sheets(files: list[ResultFile]) -> list[Sheet]:
    """Perplexities in the paper's form, then all that was measured on each set."""
    found = curves(files)
    title = f"{files[0].suite}, profile {files[0].profile}"
    notes = [
        MODEL,
        *(
            f"{curve.label} at {curve.budget_flops:.2g} FLOPs: {curve.unfit}; its best rung stands here"
            for curve in found
            if curve.unfit
        ),
        *sources(files),
        *gaps(found),
        *described(files),
    ]
    return [perplexities(title, found, notes), details(title, found, notes)]


def model_runs(curve: Curve) -> pd.DataFrame:
    """The runs of the rung that stands for the compute-optimal model."""
    return curve.runs[curve.runs["backbone"] == curve.nearest_backbone()]


def sources(files: list[ResultFile]) -> list[str]:
    """Where each set came from."""
    cases = [record.case for file in files for record in file.records]
    given = [evaluation for case in cases for evaluation in case.get("evaluations", [])]
    named = [f"{SETS[e['name']]}: {e['source']}, sha256 {e['sha256'][:12]}" for e in given]
    return list(dict.fromkeys(named))


def gaps(curves: list[Curve]) -> list[str]:
    """The sets that no run was evaluated on."""
    return [
        f"{name} is a gap: the runs were not evaluated on it (--evaluation {prefix} or {prefix}=FILE)"
        for prefix, name in SETS.items()
        if not any(f"{prefix}_perplexity" in curve.runs for curve in curves)
    ]


def about(curve: Curve) -> dict[str, Any]:
    runs = model_runs(curve)
    return {
        "method": curve.label,
        "budget": curve.budget_flops,
        "model": curve.nearest_backbone() + (" (no optimum)" if curve.unfit else ""),
        "parameters": int(runs["parameters"].iloc[0]),
        "seeds": int(runs["seed"].nunique()),
    }


def perplexities(title: str, curves: list[Curve], notes: list[str]) -> Sheet:
    rows = []
    for curve in curves:
        runs, paper = model_runs(curve), published_beside(curve, curves).get(curve.layer, {})
        row = about(curve)
        for prefix, name in ({"validation": "validation"} | SETS).items():
            values = runs.get(f"{prefix}_perplexity", pd.Series(dtype=float))
            row[name], row[f"± {name}"] = values.mean(), values.std()
            if prefix in SETS:
                row[f"paper: {name}"] = paper.get(prefix)
        rows.append(row | {"commit": curve.commit})
    frame = pd.DataFrame(rows)
    numbers = [column for column in frame.columns if column not in (*about(curves[0]), "commit")]
    return Sheet(
        title=f"{title}: perplexity per token",
        name="perplexity",
        frame=frame,
        says=lowest(frame),
        formats={"budget": ".2g", "parameters": ",.0f"} | dict.fromkeys(numbers, ".2f"),
        brief=[
            "method",
            "budget",
            *(column for name in SETS.values() for column in (name, f"paper: {name}")),
        ],
        notes=notes,
    )


def lowest(frame: pd.DataFrame) -> str:
    """Who has the lowest perplexity on how many texts, by budget."""
    texts = [name for name in SETS.values() if frame[name].notna().any()]
    if not texts:
        return "No text was given to evaluate on."
    said = [
        f"at {budget:.2g} FLOPs for {counted(rows.loc[rows[name].idxmin(), 'method'] for name in texts)}"
        for budget, rows in frame.groupby("budget")
    ]
    return f"Perplexity is lowest {listed(said)} of {len(texts)} texts."


def details(title: str, curves: list[Curve], notes: list[str]) -> Sheet:
    rows = []
    for curve in curves:
        runs, paper = model_runs(curve), published_beside(curve, curves).get(curve.layer, {})
        for prefix, name in SETS.items():
            if f"{prefix}_perplexity" not in runs:
                continue
            found = {
                metric: runs.get(f"{prefix}_{metric}", pd.Series([float("nan")]))
                for metric in ("tokens", "loss_nats", "perplexity", "bits_per_byte")
            }
            accuracy = runs.get(f"{prefix}_last_word_accuracy", pd.Series(dtype=float))
            rows.append(
                about(curve)
                | {
                    "text": name,
                    "tokens": found["tokens"].iloc[0],
                    "loss (nats/token)": found["loss_nats"].mean(),
                    "± (std)": found["loss_nats"].std(),
                    "perplexity": found["perplexity"].mean(),
                    "bits/byte": found["bits_per_byte"].mean(),
                    "last word right": accuracy.mean(),
                    "paper: perplexity": paper.get(prefix),
                    "commit": curve.commit,
                }
            )
    columns = [*about(curves[0]), "text", "tokens", "loss (nats/token)", "± (std)", "perplexity"]
    columns += ["bits/byte", "last word right", "paper: perplexity", "commit"]
    frame = pd.DataFrame(rows, columns=columns)
    right = frame.dropna(subset=["last word right"]).sort_values("last word right")
    answered = (
        f"at most {right['last word right'].iloc[-1]:.1%} of last words are right"
        if len(right)
        else "none asks for a last word"
    )
    return Sheet(
        title=f"{title}: every text",
        name="texts",
        frame=frame,
        says=f"{several(frame['text'].nunique(), 'text')}; {answered}.",
        formats={
            "budget": ".2g",
            "parameters": ",.0f",
            "tokens": ",.0f",
            "loss (nats/token)": ".4f",
            "± (std)": ".4f",
            "perplexity": ".3f",
            "bits/byte": ".4f",
            "last word right": ".2%",
            "paper: perplexity": ".2f",
        },
        notes=notes,
    )
