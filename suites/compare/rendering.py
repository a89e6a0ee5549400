"""A comparison as a table for the terminal, Markdown, CSV or JSON."""

import io
import json

import pandas as pd
from tabulate import tabulate

from suites.compare.presence import SAME_RECORD
from suites.compare.verdict import Row
from suites.output import Format, within


def render(rows: list[Row], notes: list[str], form: Format, only_changed: bool = False) -> str:
    """CSV and JSON hold full numbers; JSON holds the notes too, tables print them below.

    `only_changed` leaves out what is the same, and records that are.
    """
    counts = counted(rows)
    if only_changed:
        rows = [row for row in rows if row.verdict != "SAME" and row.cause != SAME_RECORD]
    if form == "json":
        body = {"notes": notes, "rows": [row.model_dump() for row in rows]}
        return json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False)
    if form == "csv":
        buffer = io.StringIO()
        frame = pd.DataFrame([row.model_dump() for row in rows], columns=list(Row.model_fields))
        frame.to_csv(buffer, index=False, lineterminator="\n")
        return buffer.getvalue().rstrip("\n")
    drawn = [cells(row) for row in rows]
    if form == "markdown":
        shown = tabulate(drawn, headers=HEADERS, tablefmt="pipe", disable_numparse=True)
    else:
        shown = within(HEADERS, drawn, "--format markdown")
    lines = [f"- {note}" for note in [*notes, counts]]
    return "\n".join([shown, "", *lines])


# The first matter most: a terminal has no room for all.
HEADERS = (
    "suite", "cell", "metric", "verdict", "ratio", "cause", "BASE", "HEAD", "95 % interval", "finds"
)  # fmt: skip


def cells(row: Row) -> list[str]:
    interval = "–" if row.low is None or row.high is None else f"{row.low:.3f} … {row.high:.3f}"
    return [
        row.suite,
        row.cell,
        row.metric,
        row.verdict,
        "–" if row.ratio is None else f"{row.ratio:.3f}",
        row.cause,
        "–" if row.base is None else f"{row.base:,.5g}",
        "–" if row.head is None else f"{row.head:,.5g}",
        interval,
        "–" if row.detectable is None else f"{row.detectable:+.1%}",
    ]


def counted(rows: list[Row]) -> str:
    """How often each verdict was given, and what `finds` means."""
    verdicts = [row.verdict for row in rows]
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts)) or "no cells"
    return (
        f"{counts}. `finds`: the smallest change that would have been found in 9 of 10 comparisons"
    )
