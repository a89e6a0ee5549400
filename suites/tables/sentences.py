"""What a table shows, in one sentence below it, computed from its rows.

A difference is beyond chance where its 95 % interval does not hold 0; the claims' words, which allow
for the number of comparisons, are another matter.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import pandas as pd

from suites.analysis.judgement import Interval

Standing = Literal["better", "worse", "undecided"]
VERBS: dict[Standing, str] = {
    "better": "is ahead of",
    "worse": "is behind",
    "undecided": "is within chance of",
}
LOSS = "loss (nats/token)"


def listed(words: Sequence[str]) -> str:
    """As English does it: a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def several(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def counted(words: Iterable[str]) -> str:
    """How often each occurs, the most frequent first: dense in 3 and peer in 2."""
    counts = pd.Series(list(words)).value_counts()
    ordered = sorted(counts.items(), key=lambda one: (-one[1], str(one[0])))
    return listed([f"{word} in {number}" for word, number in ordered])


def standing(found: Interval) -> Standing:
    if found.low is None or found.high is None or found.low <= 0 <= found.high:
        return "undecided"
    return "better" if found.mean < 0 else "worse"


def of_peer(gaps: Mapping[str, Interval]) -> str:
    """PEER less each method: what lies beyond chance, with its size in nats, and what does not."""
    by = {
        word: [
            f"{name} ({abs(gap.mean):.2f})" for name, gap in gaps.items() if standing(gap) == word
        ]
        for word in VERBS
    }
    parts = [f"{VERBS[word]} {listed(named)}" for word, named in by.items() if named]
    return f"PEER {'; it '.join(parts)}."


def apart(gap: float, low: float | None, high: float | None) -> str:
    """How far below or above, with the interval where there is one."""
    interval = "" if pd.isna(low) or pd.isna(high) else f" ({low:+.3f} … {high:+.3f})"
    return f"{abs(gap):.3f} {'below' if gap < 0 else 'above'}{interval}"


def between(values: pd.Series) -> str:
    """The ends, or the one number that they are."""
    ends = dict.fromkeys(
        f"{end:,.0f}" if end >= 10 else f"{end:.2g}" for end in (values.min(), values.max())
    )
    return " to ".join(ends)


def of_arms(rows: pd.DataFrame, varied: Sequence[str], against: str) -> str:
    """Of `suites.analysis.arms.arms`: the two ends, and how many arms are beyond chance."""
    compared = rows.assign(label=labels(rows, varied)).dropna(subset="difference")
    if compared.empty:
        return f"One arm alone, at {rows['loss'].iloc[0]:.3f} nats per token."
    ordered = compared.sort_values("difference", kind="stable")
    ends = [ordered.iloc[0], ordered.iloc[-1]] if len(ordered) > 1 else [ordered.iloc[0]]
    said = [
        f"{end['label']} is {apart(end['difference'], end['low'], end['high'])}" for end in ends
    ]
    below = (compared["high"].astype(float) < 0).sum()
    above = (compared["low"].astype(float) > 0).sum()
    if len(compared) > 1:
        beyond = f"of {len(compared)} differences {below} below and {above} above are beyond chance"
    else:
        beyond = "beyond chance" if below + above else "within chance"
    seeds = several(int(rows["seeds"].min()), "seed")
    reference = (
        f"{rows[against].iloc[0]}"
        if against == "method"
        else f"{against} = {rows[against].iloc[0]}"
    )
    return f"Against {reference}, in nats per token, {listed(said)}; {beyond} ({seeds})."


def labels(rows: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Each row by its method, where there are several, and those of `columns` in which its rows differ."""
    own = rows.groupby("method", sort=False) if "method" in columns else [(None, rows)]
    found = pd.Series("", index=rows.index)
    for method, some in own:
        others = [c for c in columns if c != "method"]
        varied = [c for c in others if some[c].astype(str).nunique() > 1]
        for index, row in some.iterrows():
            words = [
                f"{c} = {row[c]:g}" if isinstance(row[c], float) else f"{c} = {row[c]}"
                for c in varied
            ]
            found[index] = ", ".join([*([method] if method else []), *words])
    return found.to_list()


def of_trials(rows: pd.DataFrame, rates: Sequence[str]) -> str:
    """The best trial of each method with its rates; of methods with one trial each, their order."""
    best = rows.loc[rows.groupby("method", sort=False)[LOSS].idxmin()].sort_values(LOSS)
    tried = len(best) < len(rows)

    def said(row: pd.Series) -> str:
        own = [f"{rate} {row[rate]}" for rate in rates if row.get(rate) and not pd.isna(row[rate])]
        return f"{row['method']} {row[LOSS]:.3f}" + (f" at {listed(own)}" if tried else "")

    what = "Best trial of each method" if tried else "Methods by loss"
    return f"{what}, in nats per token: {listed([said(row) for _, row in best.iterrows()])}."
