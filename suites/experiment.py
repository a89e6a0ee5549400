"""What a training experiment is: methods and numbers per profile, and the verb that runs it."""

from pathlib import Path
from typing import Any, Literal

import click
from pydantic import JsonValue

from suites.errors import UserError
from suites.language_model.case import Backbone, Optimization, Text, TrainingCase
from suites.records.record import Model, ResultFile, canonical, digest


class Arm(Model):
    """One curve of an experiment: a layer, its options, and the learning rates tuned for it."""

    layer: str
    options: dict[str, JsonValue] = {}
    optimization: Optimization


class Profile(Model):
    """The numbers of an experiment at one scale; tables say which profile made them."""

    arms: tuple[Arm, ...]
    backbone: Backbone
    budget_flops: float
    batch_sequences: int
    evaluation_tokens: int
    seeds: tuple[int, ...]
    device: Literal["cpu", "cuda"]
    threads: int

    def only(self, layers: tuple[str, ...]) -> tuple[Arm, ...]:
        """The arms of `layers`; a registered one without an arm takes defaults and the first arm's rates."""
        from suites.layers import check_registered

        arms: list[Arm] = []
        for layer in layers:
            check_registered(layer)
            own = [arm for arm in self.arms if arm.layer == layer]
            arms += own or [Arm(layer=layer, optimization=self.arms[0].optimization)]
        return tuple(arms)

    def cases(self, text: Text) -> list[TrainingCase]:
        """Every arm at every seed, seeds outermost so that a cut-off sweep still compares arms."""
        from suites.layers import resolve_options

        return [
            TrainingCase(
                layer=arm.layer,
                options=resolve_options(arm.layer, arm.options),
                sites=(self.backbone.blocks // 2,),
                backbone=self.backbone,
                optimization=arm.optimization,
                budget_flops=self.budget_flops,
                batch_sequences=self.batch_sequences,
                evaluation_tokens=self.evaluation_tokens,
                text=text,
                seed=seed,
                device=self.device,
                threads=self.threads,
            )
            for seed in self.seeds
            for arm in self.arms
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
        "--budget", type=click.FloatRange(min=0, min_open=True), help="training FLOPs per run"
    )
    @click.option(
        "--jobs",
        type=click.IntRange(min=1),
        help="processes at a time; default: one per core on a CPU",
    )
    @click.option(
        "--results", type=click.Path(path_type=Path), help="folder of results; default: results/"
    )
    def command(profile, data, held_out, tokenizer, layers, seeds, budget, jobs, results):
        from suites.language_model.sweep import sweep

        if profile not in profiles:
            raise UserError(f"{suite} has no profile {profile!r}; it has {', '.join(profiles)}")
        chosen = profiles[profile]
        if held_out and not data:
            raise UserError("--held-out goes with --data")
        changes: dict[str, Any] = {}
        if layers:
            changes["arms"] = chosen.only(layers)
        if seeds:
            changes["seeds"] = tuple(range(seeds))
        if budget:
            changes["budget_flops"] = budget
        return sweep(
            suite,
            profile,
            chosen.model_copy(update=changes),
            data,
            held_out,
            tokenizer,
            jobs,
            results,
        )

    return command


def planned(profiles: dict[str, Profile], profile: str, files: list[ResultFile]) -> list[str]:
    """Ids of the cases of a complete run of `profile` on the text that `files` were made on."""
    if profile not in profiles:
        raise UserError(f"no profile {profile!r}; there are {', '.join(profiles)}")
    texts = {canonical(record.case["text"]) for file in files for record in file.records}
    if len(texts) > 1:
        raise UserError(f"the records were made on {len(texts)} texts; publish them one by one")
    text = Text.model_validate_json(texts.pop())
    return [digest(case.model_dump(mode="json")) for case in profiles[profile].cases(text)]
