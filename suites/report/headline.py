"""The verdict in words: what PEER wins and loses against, by how much, at which scale."""

import re
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from suites.analysis.judgement import Interval
from suites.figures.style import METHODS
from suites.paper.verdict import Line, lines
from suites.records.published import table1
from suites.report.sources import Sources, machine, word
from suites.tables.sentences import listed, of_peer, standing

RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class Gap(NamedTuple):
    """PEER less one method, in nats per token, and the word for it."""

    method: str
    name: str
    found: Interval
    word: str
    link: str

    @property
    def shown(self) -> str:
        return f"{self.found.mean:+.3f}"

    @property
    def interval(self) -> str:
        if self.found.low is None or self.found.high is None:
            return "one seed, no interval"
        return f"{self.found.low:+.3f} … {self.found.high:+.3f}"


class Sense(NamedTuple):
    """One sense in which budgets are equal, with a sentence."""

    line: Line
    gaps: list[Gap]

    @property
    def sentence(self) -> str:
        """What lies beyond chance, with its size, and what does not."""
        return of_peer({gap.name: gap.found for gap in self.gaps})


def senses(sources: Sources) -> list[Sense]:
    """Of each suite's records at its largest scale."""
    return [
        Sense(
            line,
            [
                Gap(
                    method,
                    METHODS[method][0],
                    found,
                    standing(found),
                    link(sources, line, method),
                )
                for method, found in line.gaps.items()
            ],
        )
        for line in lines(sources.largest())
        if line.gaps
    ]


def link(sources: Sources, line: Line, method: str) -> str:
    """The cells of PEER and of the method that a difference is made of."""
    words = [word("layer", f"peer|{method}")]
    if line.budget_flops is not None:
        words.append(word("budget_flops", line.budget_flops))
    return sources.showing(line.file).of(words)


def answer(found: Sequence[Sense]) -> str:
    """All of them in a sentence."""
    words = [gap.word for sense in found for gap in sense.gaps]
    return (
        f"In {words.count('better')} of {len(words)} comparisons PEER is better, in "
        f"{words.count('worse')} worse, and {words.count('undecided')} are undecided."
    )


def powers(text: str) -> str:
    """4.5e+10 as 4.5·10¹⁰, and a minus as one."""

    def written(number: re.Match[str]) -> str:
        times = "" if number[1] == "1" else f"{number[1]}·"
        return f"{times}10{str(int(number[2])).translate(RAISED)}"

    text = re.sub(r"\b(\d(?:\.\d+)?)e\+?(\d+)", written, text)
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


def scale(found: Sequence[Sense]) -> str:
    """Budgets, seeds and machine of what the verdict rests on, and how far below the paper they are."""
    files = [sense.line.file for sense in found]
    records = list(chain.from_iterable(file.records for file in files))
    budgets = [float(str(record.case["budget_flops"])) for record in records]
    seeds = sorted({gap.found.seeds for sense in found for gap in sense.gaps})
    machines = listed(sorted({machine(file) for file in files}))
    counted = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
    below = f", {min(table1()) / max(budgets):.0e} times below the paper's" if table1() else ""
    return f"{min(budgets):.2g} to {max(budgets):.2g} training FLOPs{below}; {counted} seeds; {machines}"
