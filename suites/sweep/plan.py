"""What a profile would run, before anything starts: FLOPs, tokens, memory, time. Reads no corpus.

Memory is weights, gradients and two moments in float32 and what backward keeps by the closed forms.
Time is training FLOPs over a rate: that of the nearest recorded run of the same layer, on a machine
with the same processors if there is one, else one that is assumed; which one is printed.
"""

import math
from collections.abc import Iterator, Mapping
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


def plan_text(suite: str, profile_name: str, profile: Profile, how: How) -> str:
    """What --plan prints; raises UserError where a budget cannot be met within 2 %."""
    vocabulary = tokenizer(how.tokenizer).vocabulary if how.tokenizer else profile.vocabulary
    points = plan(profile, vocabulary, recorded(how.store()))
    at_once = how.jobs_for(profile)
    given = f"of {how.tokenizer.name}" if how.tokenizer else "assumed by the profile"
    rows = [row(point, varied) for point, varied in zip(points, options(points), strict=True)]
    if how.wide:
        aligned = ("left", "left", *["right"] * (len(HEADERS) - 2))
        table = tabulate(rows, HEADERS, "pipe", colalign=aligned, disable_numparse=True)
    else:
        table = within(HEADERS, rows, "--wide")
    runs = sum(point.seeds for point in points)
    flops = sum(point.seeds * point.training_flops for point in points)
    tokens = sum(point.seeds * point.tokens for point in points)
    seconds = sum(point.seeds * (point.seconds + START_S) for point in points) / at_once
    rates = sorted({point.rate.source for point in points})
    sizes = sorted({tokens_per_step(point.case) for point in points})
    per_step = " to ".join(f"{size:,}" for size in dict.fromkeys((sizes[0], sizes[-1])))
    totals = [
        f"{suite}, profile {profile_name}: {runs} runs on {profile.device}, {at_once} at a time",
        f"vocabulary {vocabulary:,}, {given}; every step {per_step} tokens",
        f"total {flops:.3e} training FLOPs, {tokens:.3e} tokens",
        f"largest run {max(p.memory_bytes for p in points) / 2**30:.2f} GiB",
        f"about {duration(seconds)}, {START_S:.0f} s to start each run included",
        *(f"time from {source}" for source in rates),
    ]
    return f"{table}\n\n" + "\n".join(f"- {line}" for line in totals)


def total_text(profile_name: str, profiles: dict[str, Profile], hows: dict[str, How]) -> str:
    """What several suites cost together, a run that they share counted once."""
    once: dict[str, Point] = {}
    for suite, profile in profiles.items():
        how = hows[suite]
        vocabulary = tokenizer(how.tokenizer).vocabulary if how.tokenizer else profile.vocabulary
        for found in plan(profile, vocabulary, recorded(how.store())):
            once.setdefault(digest(found.case.model_dump(mode="json")), found)
    points = list(once.values())
    how, profile = next(iter(hows.values())), next(iter(profiles.values()))
    at_once = how.jobs_for(profile)
    runs = sum(point.seeds for point in points)
    flops = sum(point.seeds * point.training_flops for point in points)
    seconds = sum(point.seeds * (point.seconds + START_S) for point in points) / at_once
    return (
        f"all of profile {profile_name}: {runs} runs, those that suites share counted once, "
        f"{flops:.3e} training FLOPs, largest run {max(p.memory_bytes for p in points) / 2**30:.2f} GiB, "
        f"about {duration(seconds)} with {at_once} at a time"
    )


def plan(profile: Profile, vocabulary: int, known: list[ResultFile]) -> list[Point]:
    """Every point of `profile`; `known` are runs whose speed may stand for it."""
    once = profile.model_copy(update={"seeds": profile.seeds[:1]})
    points = [point(case, len(profile.seeds), vocabulary, known) for case in once.cases(UNREAD)]
    for budget in dict.fromkeys(p.case.budget_flops for p in points):
        Budget(kind="training_flops", reference=budget).check(
            {
                f"{p.case.layer} {digest(p.case.options)[:8]} in {backbone(p.case)}": p.training_flops
                for p in points
                if p.case.budget_flops == budget
            }
        )
    return points


def point(case: TrainingCase, seeds: int, vocabulary: int, known: list[ResultFile]) -> Point:
    model = on_meta(Decoder, case.backbone, vocabulary, case.layer, case.options, case.sites)
    step_flops = model.training_flops(case.batch_sequences)
    steps = step_count(case.budget_flops, step_flops)
    flops = steps * step_flops
    parameters = model.parameters_total()
    # Under autocast a GPU keeps activations in two bytes.
    kept = sum(model.activation_bytes(case.micro_sequences or case.batch_sequences).values())
    kept //= 2 if case.device == "cuda" else 1
    step_tokens = tokens_per_step(case)
    rate = expected_rate(case, step_flops / step_tokens, known)
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


def expected_rate(case: TrainingCase, flops_per_token: float, known: list[ResultFile]) -> Rate:
    """Of the recorded run of this layer nearest in FLOPs per token, on such a machine if there is one."""
    here = environment()
    found: dict[bool, list[Record]] = {True: [], False: []}
    for file in known:
        found[file.environment is not None and like(file.environment, here)] += [
            record
            for record in file.records
            if record.status == "ok"
            and record.case.get("layer") == case.layer
            and record.case.get("device") == case.device
            and "tokens_per_s" in record.metrics
            and "training_flops" in record.metrics
        ]
    if not (same := found[True] or found[False]):
        assumed = ASSUMED_FLOPS_PER_S[case.device]
        return Rate(flops_per_s=assumed, source=f"an assumed {assumed:.1e} FLOP/s on {case.device}")
    nearest = min(same, key=lambda record: abs(math.log(per_token(record) / flops_per_token)))
    return Rate(
        flops_per_s=float(nearest.metrics["tokens_per_s"] or math.nan) * per_token(nearest),
        source=f"recorded runs on {'such a' if found[True] else 'another'} machine",
    )


def per_token(record: Record) -> float:
    """Training FLOPs."""
    metrics: Mapping[str, Any] = record.metrics
    return metrics["training_flops"] / metrics["tokens"]


def recorded(store: Store) -> list[ResultFile]:
    """Everything that may hold training runs."""
    published = [file for _, file in store.files("records")]
    return published + [file for _, file in store.files("scratch", "runs/**/*.json")]


def like(one: Environment, other: Environment) -> bool:
    """Whether two machines have the same processors."""
    gpus = [e.gpu.name if e.gpu else None for e in (one, other)]
    return gpus[0] == gpus[1] and one.cpu == other.cpu


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
