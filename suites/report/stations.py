"""The commits at which a suite has records, in their order."""

from itertools import groupby
from typing import NamedTuple

from suites.report.sources import Source, Sources


class Station(NamedTuple):
    """A commit, under the name a reader knows it by, and the records that stand for it."""

    name: str
    commit: str
    sources: list[Source]

    @property
    def newest(self) -> Source:
        return self.sources[-1]

    def called(self, name: str) -> "Station":
        return self._replace(name=f"{name} ({self.commit[:12]})")


def chains(sources: Sources) -> list[list[Station]]:
    """Of each suite and profile, from the oldest commit to the newest."""
    by_suite: dict[tuple[str, str], list[Source]] = {}
    for one in sources.known:
        if one.stands_for in sources.age:
            by_suite.setdefault((one.file.suite, one.file.profile), []).append(one)
    return [chain(own, sources.age) for own in by_suite.values()]


def chain(own: list[Source], age: dict[str, int]) -> list[Station]:
    """Of two records of one commit and machine the one still in the tree is the newer, and stands."""
    own = sorted(own, key=lambda one: (-age[str(one.stands_for)], one.removed_by is None))
    found = []
    for commit, at in groupby(own, key=lambda one: str(one.stands_for)):
        last = {one.path: one for one in at}
        found.append(Station(commit[:12], commit, list(last.values())))
    return found
