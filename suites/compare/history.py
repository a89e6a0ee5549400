"""One number of one cell over the commits of a branch: its change points, and where to look next."""

from dataclasses import dataclass, field
from difflib import SequenceMatcher

import numpy as np
import ruptures
from matplotlib.figure import Figure

from suites.compare.sides import committed
from suites.errors import UserError
from suites.records.cells import Cell, cells, metrics
from suites.records.commits import Repository
from suites.records.names import labels
from suites.records.quantity import quantity
from suites.records.record import ResultFile
from suites.records.store import Store

SHORTEST_SEGMENT = 2  # one odd measurement is no change
FIRST = ("validation_loss_nats", "median_s", "forward_flops")  # of the metrics of a cell
MOST_LISTED = 8
PENALTY = 2.5  # simulated on 20 commits: 1 % false changes, every step of five deviations found


@dataclass
class Point:
    commit: str
    value: float


@dataclass
class History:
    """Points from the oldest commit to the newest; `changes` are indices of points that begin a level."""

    title: str
    metric: str
    points: list[Point]
    notes: list[str] = field(default_factory=list)

    @property
    def changes(self) -> list[int]:
        return change_points(np.array([point.value for point in self.points]))


def history(
    store: Store, repository: Repository, suite: str, case: str, metric: str | None, head: str
) -> History:
    """Records of `suite` on the way to `head` whose cell is named `case`; raises UserError for none."""
    order = {commit: age for age, commit in enumerate(repository.ancestors(head))}
    known = [
        one
        for one in committed(store, repository)
        if one.file.suite == suite and one.stands_for in order
    ]
    # Of two records of one commit the one still in the tree is the newer.
    known.sort(key=lambda one: (-order[one.stands_for], one.removed_by is None))
    measured = [(one.stands_for, one.file) for one in known]
    if not measured:
        raise UserError(f"no commit before {head[:12]} has records of suite {suite!r}")
    files = [file for _, file in measured]
    key, name = chosen_cell(files[-1], case)
    metric = metric or default_metric(cells(files[-1])[key])
    what = quantity(metric)
    notes = []
    if what is not None and what.needs_like_machines:
        alike = [pair for pair in measured if pair[1].environment == files[-1].environment]
        if len(alike) < len(measured):
            notes.append(f"{len(measured) - len(alike)} records of other machines are left out")
        measured = alike
    points = [
        Point(commit, float(np.mean(list(values.values()))))
        for commit, file in measured
        if (cell := cells(file).get(key)) is not None and (values := cell.values(metric))
    ]
    if not points:
        raise UserError(f"{name} of {suite} has no number {metric!r} in any record")
    return History(f"{suite}: {name}", metric, points, notes)


def chosen_cell(file: ResultFile, case: str) -> tuple[str, str]:
    """Digest and name of the one cell whose name contains `case`; the newest record names the cells."""
    named = labels(cells(file))
    found = [(key, name) for key, name in named.items() if case == name]
    found = found or [(key, name) for key, name in named.items() if case in name]
    if len(found) != 1:
        every = sorted(name for _, name in found) or nearest(case, list(named.values()))
        listed = "".join(f"\n  {name}" for name in every[:MOST_LISTED])
        more = f"\n  and {len(every) - MOST_LISTED} more" if len(every) > MOST_LISTED else ""
        raise UserError(
            f"--case {case!r} is part of {len(found)} names of {len(named)} cells of {file.suite}; "
            f"give one of:{listed}{more}"
        )
    return found[0]


def nearest(case: str, names: list[str]) -> list[str]:
    """`names`, the most similar first."""
    matcher = SequenceMatcher(b=case)

    def likeness(name: str) -> float:
        matcher.set_seq1(name)
        return matcher.ratio()

    return sorted(sorted(names), key=likeness, reverse=True)


def default_metric(cell: Cell) -> str:
    """What its suite is run for, where the cell has it."""
    judged = [name for name in metrics([cell]) if quantity(name) is not None]
    if not judged:
        raise UserError(f"the newest record has no number for this cell: {cell.failures()}")
    return next((name for name in FIRST if name in judged), judged[0])


def change_points(values: np.ndarray) -> list[int]:
    """Starts of new levels by PELT (arXiv 1101.1438) on distances of logarithms from their median.

    The noise is read off the differences of neighbours; 1e-3 of the value is never a change.
    """
    if len(values) < 2 * SHORTEST_SEGMENT or values.min() <= 0:
        return []
    signal = np.log(values)
    noise = max(np.median(np.abs(np.diff(signal))) / 0.954, 1e-3)  # 0.6745 · √2
    search = ruptures.Pelt(model="l1", min_size=SHORTEST_SEGMENT, jump=1).fit(signal)
    return search.predict(pen=PENALTY * np.log(len(values)) * noise)[:-1]


def bisect_help(found: History, repository: Repository) -> list[str]:
    """For each change point the commit to blame, or the one to measure next."""
    lines = []
    for start in found.changes:
        good, bad = found.points[start - 1].commit, found.points[start].commit
        between = repository.between(good, bad)
        if not between:
            lines.append(f"changed at {bad[:12]}: {repository.subject(bad)}")
            continue
        middle = between[len(between) // 2]
        lines.append(
            f"changed after {good[:12]}, at {bad[:12]} or one of {len(between)} unmeasured commits "
            f"before it; measure {middle[:12]} next: nox -s regress -- {good[:12]} {middle[:12]}"
        )
    return lines


def plot(found: History) -> Figure:
    """Its points over the commits, a dashed line where a new level begins."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([point.value for point in found.points], marker="o", color="C0")
    for start in found.changes:
        axes.axvline(start - 0.5, linestyle="--", color="C3")
    axes.set_xticks(range(len(found.points)), [point.commit[:8] for point in found.points])
    axes.tick_params(axis="x", rotation=60)
    axes.set(title=found.title, ylabel=found.metric, xlabel="commit")
    return figure
