"""Each commit that has records against the one before it, and each tag against the one before."""

from collections import Counter
from itertools import pairwise
from typing import Any

from suites.compare.findings import compare
from suites.compare.sides import Side
from suites.compare.verdict import Row
from suites.errors import UserError
from suites.records.commits import Repository
from suites.report.grid import of_rows
from suites.report.sources import Sources, shown
from suites.report.stations import Station, chains
from suites.report.view import Note, View

LEFT_OUT = {"SAME", "INVALID", "NEW"}  # of the rows: they are counted, and say nothing of a change
MOST_CHANGES = 1000  # that a page opens with
GOOD, BAD = {"FASTER", "BETTER", "FEWER"}, {"SLOWER", "WORSE", "MORE", "REMOVED", "FAILED"}


def view(sources: Sources, repository: Repository) -> View:
    """Comparisons are those of `python -m suites compare`."""
    found = chains(sources)
    pairs = [pair for chain in found for pair in pairwise(chain)]
    pairs += between_tags(found, repository)
    if not pairs:
        none = "No suite has records at two commits yet, so there is nothing to compare."
        return View("commits", "Commits", TITLE, LEAD, [Note(none)])
    summary, changes = [], []
    for base, head in pairs:
        rows, cause = compared(base, head)
        summary.append((summed(base, head, rows, cause), head.newest.page))
        changes += [
            (told(row, base, head), (base if row.verdict == "REMOVED" else head).newest.page)
            for row in rows
            if row.verdict not in LEFT_OUT
        ]
    blocks: list = [of_rows("compared", "Neighbouring commits", *zip(*summary, strict=True))]
    if changes:
        newest = changes[-MOST_CHANGES:]
        title = "Every number that changed"
        if len(newest) < len(changes):
            title = f"Of {len(changes):,} numbers that changed, the last {len(newest):,} compared"
        blocks.append(of_rows("changed", title, *zip(*newest, strict=True)))
    return View("commits", "Commits", TITLE, LEAD, blocks)


TITLE = "What changed between commits"
LEAD = (
    "Losses pair by seed, counts must be equal, times and memory compare on one machine only; verdicts "
    "allow for the number of cells."
)


def between_tags(
    found: list[list[Station]], repository: Repository
) -> list[tuple[Station, Station]]:
    """Of each suite, what stood at a tag and at the one before, where that differs."""
    pairs = []
    for base, head in pairwise(repository.tags()):
        before, after = (set(repository.ancestors(tag)) for tag in (base, head))
        for chain in found:
            at = [[one for one in chain if one.commit in known][-1:] for known in (before, after)]
            if all(at) and at[0] != at[1]:
                pairs.append((at[0][0].called(base), at[1][0].called(head)))
    return pairs


def compared(base: Station, head: Station) -> tuple[list[Row], str]:
    """The rows, and why some say nothing."""
    ours, theirs = (Side(one.name, [s.file for s in one.sources]) for one in (base, head))
    try:
        rows = compare(ours, theirs)
    except UserError as error:  # machines that cannot be paired
        return [], str(error)
    causes = {row.cause.split(" (")[0] for row in rows if row.verdict == "INVALID"}
    return rows, "; ".join(sorted(causes))


def summed(base: Station, head: Station, rows: list[Row], cause: str) -> dict[str, Any]:
    counts = Counter[str](row.verdict for row in rows)

    def count(*words: str) -> tuple[float, str]:
        number = sum(counts[word] for word in words)
        return float(number), f"{number:,}"

    return {
        "suite": f"{head.newest.file.suite} {head.newest.file.profile}",
        "base": base.name,
        "head": head.name,
        "better": count(*GOOD),
        "worse": count(*BAD),
        "same": count("SAME"),
        "undecided": count("UNDECIDED"),
        "new": count("NEW"),
        "invalid": count("INVALID"),
        "why invalid": cause or "–",
    }


def told(row: Row, base: Station, head: Station) -> dict[str, Any]:
    def number(value: float | None) -> str | tuple[float, str]:
        return "–" if value is None else (value, shown(value))

    interval = "–" if row.low is None or row.high is None else f"{row.low:.3f} … {row.high:.3f}"
    return {
        "suite": row.suite,
        "cell": row.cell,
        "metric": row.metric,
        "verdict": row.verdict,
        "base": number(row.base),
        "head": number(row.head),
        "ratio": number(row.ratio),
        "95 % interval": interval,
        "commits": f"{base.name} → {head.name}",
        "cause": row.cause or "–",
    }
