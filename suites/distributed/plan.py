"""A model on more and more GPUs, before any is rented: memory, bytes sent, steps as far as rates are known.

Every GPU has as many sequences, so the batch grows with their number. Memory is weights, gradients and
two moments in float32, what FSDP2 holds whole at a time, what backward keeps by the closed forms, and what
spread tables receive. A step is computing and then sending, nothing of which overlaps.
"""

import math
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Literal, NamedTuple

import pandas as pd

from peer.sharded import SHARDINGS, Sharding, fits
from suites.distributed.costs import (
    SIZE,
    choose,
    reads,
    received_bytes,
    step_bytes,
    table_bytes,
    whole_bytes,
)
from suites.errors import UserError
from suites.language_model.case import Backbone, Optimization, TrainingCase
from suites.language_model.decoder import Decoder
from suites.layers import resolve_options
from suites.measure.meta import on_meta
from suites.sweep.plan import UNREAD, Rate, Rates
from suites.tables.sentences import listed
from suites.tables.sheet import Sheet

Device = Literal["cpu", "cuda"]
MOST_GPUS = 2**20
GIB, MB = 2**30, 1e6
COPIES = {"weights GiB": 1, "gradients GiB": 1, "moments GiB": 2}  # in float32


class Gpu(NamedTuple):
    """What is assumed of one."""

    memory_gib: float
    sends_gb_per_s: float


def numbers_of(given: str) -> list[int]:
    """1..8 is every power of two between and both ends; else numbers with commas. Raises UserError."""
    first, dots, last = given.partition("..")
    words = [first, last] if dots else given.split(",")
    if not all(word.isdecimal() and 0 < int(word) <= MOST_GPUS for word in words):
        raise UserError(
            f"--gpus takes 1..1024 for the powers of two between, or 1,6,8; got {given!r}"
        )
    ends = [int(word) for word in words]
    between = [2**n for n in range(MOST_GPUS.bit_length()) if min(ends) <= 2**n <= max(ends)]
    return sorted({*ends, *(between if dots else ())})


def case_of(
    layer: str, given: Mapping[str, int | None], backbone: Backbone, sequences: int, device: Device
) -> TrainingCase:
    """With the layer's defaults where `given` says None; "experts" are memories of a layer with those.

    Raises UserError for an option that the layer does not have.
    """
    own = resolve_options(layer, {})
    options = {
        "memories" if name == "experts" and "memories" in own else name: value
        for name, value in given.items()
        if value is not None
    }
    return TrainingCase(
        layer=layer,
        options=resolve_options(layer, options),
        sites=(backbone.blocks // 2,),
        backbone=backbone,
        optimization=Optimization(learning_rate=1.0),  # moves no cost
        budget_flops=1.0,
        batch_sequences=sequences,
        evaluation_tokens=1,
        text=UNREAD,
        seed=0,
        device=device,
        threads=1,
    )


def sheet(
    case: TrainingCase, vocabulary: int, numbers: Iterable[int], gpu: Gpu, rates: Rates
) -> Sheet:
    """One row per number of GPUs; the batch of `case` is one GPU's, in one call.

    Raises UserError for sizes that no model has.
    """
    try:
        model = on_meta(Decoder, case.backbone, vocabulary, case.layer, case.options, case.sites)
    except ValueError as error:
        raise UserError(f"no such model: {error}") from error
    flops = model.training_flops(case.batch_sequences)
    tokens = case.batch_sequences * case.backbone.context
    rate = rates.nearest(case, flops / tokens)
    frame = pd.DataFrame(
        [row(model, case, ranks, gpu, flops / rate.flops_per_s) for ranks in numbers]
    )
    said = sentence(frame, gpu, rate)
    if rate.assumed:
        frame = frame.rename(columns={"compute ms": "compute ms (assumed)"})
    one = case.backbone
    return Sheet(
        title=f"{case.layer} in {one.blocks} × {one.dim}, {tokens:,} tokens a GPU and step",
        frame=frame,
        says=said,
        formats={
            "GPUs": ",.0f",
            **{name: ".2f" for name in frame if "GiB" in name},
            **{name: ",.1f" for name in frame if "MB" in name or "ms" in name},
            "parameters": ",.0f",
            "tokens per step": ",.0f",
        },
        notes=[
            f"computing from {rate.source}; sending at an assumed {gpu.sends_gb_per_s:g} GB/s of a GPU",
            "sent: by one GPU in one step; tables by columns or by rows, backbone by FSDP2",
            "whole: parameters and gradients of one block and of what is in none, gathered to compute",
            "activations: by closed forms; received: what tables keep of other GPUs' tokens",
        ],
        terminal=["GPUs", "sharding", "all GiB", *SENT.values(), *(c for c in frame if " ms" in c)],
    )


SENT = {sharding: f"by {sharding} MB" for sharding in SHARDINGS}


def row(
    model: Decoder, case: TrainingCase, ranks: int, gpu: Gpu, compute_s: float
) -> dict[str, float | str]:
    """NaN where tables divide neither way, or not that way."""
    sequences, parameters = case.batch_sequences, model.parameters_total()
    known = ranks == 1 or not reads(model) or any(divides(model, s, ranks) for s in SHARDINGS)
    sharding = choose(model, ranks, sequences) if known else None
    got = received_bytes(model, sharding, ranks, sequences) if sharding else 0
    sent = step_bytes(model, sharding, ranks, sequences) if ranks > 1 else {}
    # Under autocast a GPU keeps activations in two bytes.
    kept = sum(model.activation_bytes(sequences).values()) / (2 if case.device == "cuda" else 1)
    memory = {
        **{name: copies * SIZE * parameters / ranks / GIB for name, copies in COPIES.items()},
        "whole GiB": whole_bytes(model) / GIB if ranks > 1 else 0.0,
        "activations GiB": kept / GIB,
        "received GiB": got / GIB,
    }
    send_s = sum(sent.values()) / (gpu.sends_gb_per_s * 1e9)
    of_tables = {
        name: table_bytes(model, s, ranks, sequences) / MB if divides(model, s, ranks) else math.nan
        for s, name in SENT.items()
    }
    sizes: dict[str, float] = {
        "parameters": parameters,
        "tokens per step": ranks * sequences * case.backbone.context,
        **memory,
        "all GiB": sum(memory.values()),
        **of_tables,
        "backbone MB": sent.get("backbone", 0) / MB,
        "all sent MB": sum(sent.values()) / MB,
        "compute ms": 1e3 * compute_s,
        "sending ms (assumed)": 1e3 * send_s,
        "step ms (assumed)": 1e3 * (compute_s + send_s),
    }
    if not known:
        sizes = dict.fromkeys(sizes, math.nan)
    return {"GPUs": ranks, "sharding": sharding or "–", **sizes}


def divides(model: Decoder, sharding: Sharding, ranks: int) -> bool:
    return all(fits(sharding, ranks, read.shape) for read in reads(model))


def sentence(frame: pd.DataFrame, gpu: Gpu, rate: Rate) -> str:
    """Which sharding wins where, from where on it fits, from where on it waits for the wire."""
    known = frame.dropna(subset="all GiB")
    wins = [
        f"{sharding} {where(known, known['sharding'] == sharding)}"
        for sharding in SHARDINGS
        if (known["sharding"] == sharding).any()
    ]
    holds = known["all GiB"] <= gpu.memory_gib
    waits = known["sending ms (assumed)"] > known["compute ms"]
    parts = [
        f"tables send less by {listed(wins)}" if wins else "no tables are spread",
        f"{gpu.memory_gib:g} GiB hold it {where(known, holds)}"
        if holds.any()
        else f"none of these holds it in {gpu.memory_gib:g} GiB",
        f"a step sends longer than it computes {where(known, waits)}"
        if waits.any()
        else "no step sends longer than it computes",
    ]
    assumed = "rates assumed" if rate.assumed else "the wire's rate assumed"
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]} ({assumed})."


def where(known: pd.DataFrame, holds: pd.Series) -> str:
    """At which numbers of GPUs, neighbouring rows joined."""
    runs = [
        [f"{number:,}" for number, _ in some]
        for here, some in groupby(zip(known["GPUs"], holds, strict=True), lambda one: one[1])
        if here
    ]
    return f"at {listed([' to '.join(dict.fromkeys((run[0], run[-1]))) for run in runs])} GPUs"
