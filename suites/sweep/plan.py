"""What a profile would run, before anything starts: FLOPs, tokens, memory, time. Reads no corpus.

Memory is weights, gradients and two moments in float32 and what backward keeps by the closed forms.
Time is training FLOPs over a rate: that of the nearest recorded run of the same layer, on a machine
with the same processors if there is one, else one that is assumed; which one is printed.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tabulate import tabulate

from suites.language_model.case import TrainingCase
from suites.language_model.decoder import Decoder
from suites.language_model.train import step_count
from suites.measure.environment import environment
from suites.measure.meta import on_meta
from suites.output import within
from suites.records.budget import Budget
from suites.records.cells import flat
from suites.records.names import short
from suites.records.record import Environment, Model, Record, ResultFile, canonical, digest
from suites.records.store import Store
from suites.sweep.experiment import Profile
from suites.sweep.run import How
from suites.text.case import Text
from suites.text.tokenizer import tokenizer

ASSUMED_FLOPS_PER_S = {"cpu": 1e10, "cuda": 2e14}  # of one run; a guess, and printed as one
START_S = 1.0  # of a run: to build the model and to write the record
FLOAT32_COPIES = 4  # weights, gradients, two moments
# The first matter most: a terminal has no room for all.
HEADERS = (
    "layer", "options that differ", "backbone", "budget", "mismatch", "seeds", "min/run", "steps",
    "tokens", "FLOPs/run", "parameters", "GiB"
)  # fmt: skip
UNREAD = Text(source="not read", tokenizer="not read", tokenizer_sha256=None, sha256="not read")


class Rate(Model):
    """Training FLOP/s of one run and where the number comes from."""

    flops_per_s: float
    source: str
    assumed: bool = False


class Rates:
    """Recorded rates of training by layer and device: of machines such as this one if there are any."""

    def __init__(self, files: Iterable[ResultFile] = ()) -> None:
        here = environment()
        found: dict[tuple[str, str], dict[bool, list[Record]]] = {}
        for file in files:
            such = file.environment is not None and like(file.environment, here)
            for record in filter(is_training, file.records):
                kind = record.case["layer"], record.case["device"]
                found.setdefault(kind, {True: [], False: []})[such].append(record)
        self.found = found

    @classmethod
    def of(cls, store: Store) -> "Rates":
        """Of everything that may hold training runs."""
        files = (*store.files("records"), *store.files("scratch", "runs/**/*.json"))
        return cls(file for _, file in files)

    def nearest(self, case: TrainingCase, flops_per_token: float) -> Rate:
        """Of the recorded run of this layer that is nearest in training FLOPs per token."""
        found = self.found.get((case.layer, case.device), {})
        such = bool(found.get(True))
        if not (records := found.get(such)):
            assumed = ASSUMED_FLOPS_PER_S[case.device]
            source = f"an assumed {assumed:.1e} FLOP/s on {case.device}"
            return Rate(flops_per_s=assumed, source=source, assumed=True)
        nearest = min(
            records, key=lambda record: abs(math.log(per_token(record) / flops_per_token))
        )
        return Rate(
            flops_per_s=float(nearest.metrics["tokens_per_s"] or math.nan) * per_token(nearest),
            source=f"recorded runs on {'such a' if such else 'another'} machine",
        )


def is_training(record: Record) -> bool:
    measured = {"tokens_per_s", "training_flops"} <= record.metrics.keys()
    return record.status == "ok" and measured and {"layer", "device"} <= record.case.keys()


def per_token(record: Record) -> float:
    """Training FLOPs."""
    metrics: Mapping[str, Any] = record.metrics
    return metrics["training_flops"] / metrics["tokens"]


def like(one: Environment, other: Environment) -> bool:
    """Whether two machines have the same processors."""
    gpus = [e.gpu.name if e.gpu else None for e in (one, other)]
    return gpus[0] == gpus[1] and one.cpu == other.cpu


class Point(Model):
    """One arm in one backbone at one budget, for all its seeds."""

    case: TrainingCase
    seeds: int
    parameters: int
    steps: int
    tokens: int
    training_flops: int
    mismatch: float
    memory_bytes: int
    seconds: float
    rate: Rate


class Plan:
    """One suite at one profile before it runs; raises UserError where a budget is missed by over 2 %."""

    def __init__(
        self, suite: str, profile_name: str, profile: Profile, how: How, rates: Rates
    ) -> None:
        pieces = tokenizer(how.tokenizer) if how.tokenizer else None
        vocabulary = pieces.vocabulary if pieces else profile.vocabulary
        self.title = f"{suite}, profile {profile_name}"
        self.vocabulary = f"vocabulary {vocabulary:,}, " + (
            f"of {pieces.name}" if pieces else "assumed by the profile"
        )
        self.device, self.at_once, self.wide = profile.device, how.jobs_for(profile), how.wide
        self.points = plan(profile, vocabulary, rates)

    def text(self) -> str:
        """What --plan prints."""
        varied = options(self.points)
        rows = [row(point, differs) for point, differs in zip(self.points, varied, strict=True)]
        if self.wide:
            aligned = ("left", "left", *["right"] * (len(HEADERS) - 2))
            table = tabulate(rows, HEADERS, "pipe", colalign=aligned, disable_numparse=True)
        else:
            table = within(HEADERS, rows, "--wide")
        tokens = sum(point.seeds * point.tokens for point in self.points)
        sources = sorted({point.rate.source for point in self.points})
        sizes = sorted({tokens_per_step(point.case) for point in self.points})
        per_step = " to ".join(f"{size:,}" for size in dict.fromkeys((sizes[0], sizes[-1])))
        runs, flops, memory, time = sums(self.points, self.at_once)
        totals = [
            f"{self.title}: {runs} runs on {self.device}, {self.at_once} at a time",
            f"{self.vocabulary}; every step {per_step} tokens",
            f"total {flops} training FLOPs, {tokens:.3e} tokens",
            f"largest run {memory}",
            f"about {time}, {START_S:.0f} s to start each run included",
            *(f"time from {source}" for source in sources),
        ]
        return f"{table}\n\n" + "\n".join(f"- {line}" for line in totals)


def total_text(profile_name: str, plans: list[Plan]) -> str:
    """What several suites cost together, a run that they share counted once."""
    once: dict[str, Point] = {}
    for point in (point for one in plans for point in one.points):
        once.setdefault(digest(point.case.model_dump(mode="json")), point)
    at_once = plans[0].at_once
    runs, flops, memory, time = sums(list(once.values()), at_once)
    return (
        f"all of profile {profile_name}: {runs} runs, those that suites share counted once, "
        f"{flops} training FLOPs, largest run {memory}, about {time} with {at_once} at a time"
    )


def sums(points: list[Point], at_once: int) -> tuple[int, str, str, str]:
    """Runs, their training FLOPs, the memory of the largest and the time of all."""
    flops = sum(point.seeds * point.training_flops for point in points)
    memory = max(point.memory_bytes for point in points) / 2**30
    seconds = sum(point.seeds * (point.seconds + START_S) for point in points) / at_once
    runs = sum(point.seeds for point in points)
    return runs, f"{flops:.3e}", f"{memory:.2f} GiB", duration(seconds)


def plan(profile: Profile, vocabulary: int, rates: Rates) -> list[Point]:
    """Every point of `profile`."""
    once = profile.model_copy(update={"seeds": profile.seeds[:1]})
    points = [point(case, len(profile.seeds), vocabulary, rates) for case in once.cases(UNREAD)]
    for budget in dict.fromkeys(p.case.budget_flops for p in points):
        Budget(kind="training_flops", reference=budget).check(
            {
                f"{p.case.layer} {digest(p.case.options)[:8]} in {backbone(p.case)}": p.training_flops
                for p in points
                if p.case.budget_flops == budget
            }
        )
    return points


def point(case: TrainingCase, seeds: int, vocabulary: int, rates: Rates) -> Point:
    model = on_meta(Decoder, case.backbone, vocabulary, case.layer, case.options, case.sites)
    step_flops = model.training_flops(case.batch_sequences)
    steps = step_count(case.budget_flops, step_flops)
    flops = steps * step_flops
    parameters = model.parameters_total()
    # Under autocast a GPU keeps activations in two bytes.
    kept = sum(model.activation_bytes(case.micro_sequences or case.batch_sequences).values())
    kept //= 2 if case.device == "cuda" else 1
    step_tokens = tokens_per_step(case)
    rate = rates.nearest(case, step_flops / step_tokens)
    evaluation_flops = case.evaluation_tokens * step_flops / step_tokens / 3  # forward only
    return Point(
        case=case,
        seeds=seeds,
        parameters=parameters,
        steps=steps,
        tokens=steps * step_tokens,
        training_flops=flops,
        mismatch=flops / case.budget_flops - 1,
        memory_bytes=FLOAT32_COPIES * 4 * parameters + kept,
        seconds=(flops + evaluation_flops) / rate.flops_per_s,
        rate=rate,
    )


def options(points: list[Point]) -> Iterator[str]:
    """Per point, the options, rates and sites in which the arms of its layer differ."""
    for one in points:
        mine = arm(one.case)
        others = [arm(p.case) for p in points if p.case.layer == one.case.layer]
        yield " ".join(
            short(name, value)
            for name, value in mine.items()
            if len({canonical(other.get(name)) for other in others}) > 1
        )


def arm(case: TrainingCase) -> dict[str, Any]:
    chosen = case.model_dump(mode="json", include={"options", "optimization"})
    return flat(chosen) | {"sites": [site - case.backbone.blocks // 2 for site in case.sites]}


def row(point: Point, varied: str) -> tuple[str, ...]:
    return (
        point.case.layer,
        varied,
        backbone(point.case),
        f"{point.case.budget_flops:.2e}",
        f"{point.mismatch:+.2%}",
        str(point.seeds),
        f"{point.seconds / 60:,.1f}",
        f"{point.steps:,}",
        f"{point.tokens:,}",
        f"{point.training_flops:.3e}",
        f"{point.parameters:,}",
        f"{point.memory_bytes / 2**30:.2f}",
    )


def backbone(case: TrainingCase) -> str:
    return f"{case.backbone.blocks} × {case.backbone.dim}"


def tokens_per_step(case: TrainingCase) -> int:
    return case.batch_sequences * case.backbone.context


def duration(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.1f} hours" if minutes < 5760 else f"{minutes / 1440:,.1f} days"
