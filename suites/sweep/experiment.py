"""What a training experiment is: methods and numbers per profile, and the cases they make."""

import json
from itertools import product
from typing import Literal

from pydantic import Field, JsonValue, PositiveFloat, PositiveInt

from suites.errors import UserError
from suites.language_model.case import Backbone, Optimization, TrainingCase
from suites.records.record import Model, ResultFile, canonical, digest
from suites.text.case import Evaluation, Text

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

    tuned_dim: PositiveInt | None = Field(
        default=None, description="width at which the learning rate was tuned; None: any"
    )
    width_power: float = Field(
        default=0.0,
        description="of a model wider than tuned_dim, the learning rate goes with (width / tuned_dim) "
        "to this power; narrower ones keep it",
    )

    def optimization_at(self, dim: int) -> Optimization:
        """That of a model of width `dim`; the learning rate has three digits."""
        if self.tuned_dim is None:
            return self.optimization
        wider = max(1.0, dim / self.tuned_dim)
        rate = self.optimization.learning_rate * wider**self.width_power
        return self.optimization.model_copy(update={"learning_rate": float(f"{rate:.3g}")})


class Profile(Model):
    """The numbers of an experiment at one scale; tables say which profile made them.

    Every arm is trained in every backbone of a budget with every seed.
    """

    arms: tuple[Arm, ...]
    backbones: tuple[Backbone, ...]
    budgets_flops: tuple[float, ...]
    ladders: dict[float, tuple[Backbone, ...]] = Field(
        default={}, description="backbones of single budgets; the others take `backbones`"
    )
    batch_sequences: int
    batches: dict[float, int] = Field(
        default={},
        description="sequences per batch of single budgets; the others `batch_sequences`",
    )
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
                optimization=arm.optimization_at(backbone.dim),
                budget_flops=budget * arm.budget_factor,
                batch_sequences=self.batches.get(budget, self.batch_sequences),
                evaluation_tokens=self.evaluation_tokens,
                text=text,
                seed=seed,
                device=self.device,
                threads=self.threads,
                compiled=self.compiled,
                micro_sequences=self.micro_sequences,
                evaluations=evaluations,
            )
            for seed, budget in product(self.seeds, self.budgets_flops)
            for backbone, arm in product(self.ladders.get(budget, self.backbones), self.arms)
        ]


def planned(profiles: dict[str, Profile], profile: str, files: list[ResultFile]) -> list[str]:
    """Ids of the cases of a complete run of `profile` on the text that `files` were made on.

    A profile with ladders is complete budget by budget: those count of which there is any record.
    """
    if profile not in profiles:
        raise UserError(f"no profile {profile!r}; there are {', '.join(profiles)}")
    cases = [record.case for file in files for record in file.records]
    read = {canonical([case["text"], case.get("evaluations", [])]) for case in cases}
    if len(read) > 1:
        raise UserError(f"the records were made on {len(read)} texts; publish them one by one")
    text, evaluations = json.loads(read.pop())
    begun = {case["budget_flops"] for case in cases}
    chosen = [
        case
        for case in profiles[profile].cases(
            Text.model_validate(text), tuple(map(Evaluation.model_validate, evaluations))
        )
        if not profiles[profile].ladders or case.budget_flops in begun
    ]
    return [digest(case.model_dump(mode="json")) for case in chosen]
