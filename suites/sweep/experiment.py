"""What a training experiment is: methods and numbers per profile, and the verb that runs it."""

import json
from itertools import product
from pathlib import Path
from typing import Any, Literal

import click
from pydantic import Field, JsonValue, PositiveFloat

from suites.errors import UserError
from suites.language_model.case import Backbone, Evaluation, Optimization, Text, TrainingCase
from suites.records.record import Model, ResultFile, canonical, digest

BYTES = 256  # token ids of the default tokenizer


class Arm(Model):
    """One curve of an experiment: a layer, its options, and the learning rates tuned for it."""

    layer: str
    options: dict[str, JsonValue] = {}
    sites: tuple[int, ...] | None = Field(
        default=None, description="blocks that hold the layer; None: the middle one"
    )
    optimization: Optimization
    budget_factor: PositiveFloat = Field(
        default=1,
        description="times the profile's budget, where an experiment matches something else",
    )


class Profile(Model):
    """The numbers of an experiment at one scale; tables say which profile made them.

    Every arm is trained in every backbone at every budget with every seed.
    """

    arms: tuple[Arm, ...]
    backbones: tuple[Backbone, ...]
    budgets_flops: tuple[float, ...]
    batch_sequences: int
    evaluation_tokens: int
    seeds: tuple[int, ...]
    device: Literal["cpu", "cuda"]
    threads: int
    compiled: bool = False
    micro_sequences: int | None = Field(
        default=None,
        description="what fits into memory; batch statistics and expert choice are of this part",
    )
    vocabulary: int = Field(
        default=BYTES, description="what --plan assumes; above that of bytes, --data must be given"
    )

    def only(self, layers: tuple[str, ...]) -> tuple[Arm, ...]:
        """The arms of `layers`; a registered one without an arm takes defaults and the first arm's rates."""
        from suites.layers import check_registered

        arms: list[Arm] = []
        for layer in layers:
            check_registered(layer)
            own = [arm for arm in self.arms if arm.layer == layer]
            arms += own or [Arm(layer=layer, optimization=self.arms[0].optimization)]
        return tuple(arms)

    def cases(self, text: Text, evaluations: tuple[Evaluation, ...] = ()) -> list[TrainingCase]:
        """The product, seeds outermost so that a cut-off sweep still compares arms."""
        from suites.layers import resolve_options

        return [
            TrainingCase(
                layer=arm.layer,
                options=resolve_options(arm.layer, arm.options),
                sites=(backbone.blocks // 2,) if arm.sites is None else arm.sites,
                backbone=backbone,
                optimization=arm.optimization,
                budget_flops=budget * arm.budget_factor,
                batch_sequences=self.batch_sequences,
                evaluation_tokens=self.evaluation_tokens,
                text=text,
                seed=seed,
                device=self.device,
                threads=self.threads,
                compiled=self.compiled,
                micro_sequences=self.micro_sequences,
                evaluations=evaluations,
            )
            for seed, budget, backbone, arm in product(
                self.seeds, self.budgets_flops, self.backbones, self.arms
            )
        ]


def training_command(suite: str, card: str, profiles: dict[str, Profile]) -> click.Command:
    """The `run` verb of a training suite; `card` is its module's docstring."""

    @click.command(name=suite, help=card)
    @click.option(
        "--profile", default="tiny", show_default=True, help=f"one of {', '.join(profiles)}"
    )
    @click.option(
        "--data",
        multiple=True,
        metavar="FILE",
        help="parquet, jsonl or text file with documents, or hf://datasets/OWNER/NAME@REVISION/FILE; "
        "repeatable. Default: the running Python's standard library.",
    )
    @click.option(
        "--held-out",
        multiple=True,
        metavar="FILE",
        help="validation documents; default: one document in 50 of --data",
    )
    @click.option(
        "--tokenizer", type=click.Path(path_type=Path), help="a SentencePiece file; default: bytes"
    )
    @click.option(
        "--layer",
        "layers",
        multiple=True,
        help="only these layers, registered ones outside the profile too; repeatable",
    )
    @click.option("--seeds", type=click.IntRange(min=1), help="number of seeds")
    @click.option(
        "--budget",
        type=click.FloatRange(min=0, min_open=True),
        help="training FLOPs per run, instead of the profile's",
    )
    @click.option(
        "--evaluation",
        "evaluations",
        multiple=True,
        metavar="NAME[=FILE]",
        help="evaluate every run on curation, lambada, pile, wikitext or c4 too: the hub's file, or "
        "FILE as for --data; FILE#sha256=HEX is checked; repeatable",
    )
    @click.option(
        "--checkpoint-interval",
        "checkpoint_interval_s",
        type=click.FloatRange(min=0),
        default=120,
        show_default=True,
        help="seconds between two checkpoints of a run; shorter runs write none",
    )
    @click.option(
        "--jobs",
        type=click.IntRange(min=1),
        help="processes at a time; default: one per core on a CPU",
    )
    @click.option(
        "--results", type=click.Path(path_type=Path), help="folder of results; default: results/"
    )
    @click.option(
        "--plan",
        is_flag=True,
        help="print runs, FLOPs, tokens, memory and estimated time; start nothing",
    )
    def command(profile, layers, seeds, budget, plan, **how):
        from suites.language_model.plan import plan_text
        from suites.language_model.sweep import How, sweep

        if profile not in profiles:
            raise UserError(f"{suite} has no profile {profile!r}; it has {', '.join(profiles)}")
        chosen = profiles[profile]
        changes: dict[str, Any] = {}
        if layers:
            changes["arms"] = chosen.only(layers)
        if seeds:
            changes["seeds"] = tuple(range(seeds))
        if budget:
            changes["budgets_flops"] = (budget,)
        chosen = chosen.model_copy(update=changes)
        if plan:
            click.echo(plan_text(suite, profile, chosen, How(**how)))
            return 0
        return sweep(suite, profile, chosen, How(**how))

    return command


def planned(profiles: dict[str, Profile], profile: str, files: list[ResultFile]) -> list[str]:
    """Ids of the cases of a complete run of `profile` on the text that `files` were made on."""
    if profile not in profiles:
        raise UserError(f"no profile {profile!r}; there are {', '.join(profiles)}")
    cases = [record.case for file in files for record in file.records]
    read = {canonical([case["text"], case.get("evaluations", [])]) for case in cases}
    if len(read) > 1:
        raise UserError(f"the records were made on {len(read)} texts; publish them one by one")
    text, evaluations = json.loads(read.pop())
    chosen = profiles[profile].cases(
        Text.model_validate(text), tuple(map(Evaluation.model_validate, evaluations))
    )
    return [digest(case.model_dump(mode="json")) for case in chosen]
