"""From a case of the suite to its record."""

from typing import Any

import torch

from suites.budgets.case import (
    Case,
    ChinchillaCase,
    CrossoverCase,
    DecoderCase,
    LayerCase,
    MatchCase,
)
from suites.budgets.chinchilla import TABLE, ratios
from suites.budgets.crossover import crossovers
from suites.budgets.match import dense_budget, match
from suites.language_model.decoder import Decoder
from suites.layers import build, output_and_loss
from suites.measure.activations import saved_bytes
from suites.measure.flops import count
from suites.measure.meta import on_meta
from suites.records.record import Record, canonical

Metrics = dict[str, float | int | str | None]


def record(case: Case) -> Record:
    """Raises UserError for counts that disagree; a match out of reach is a record with a reason."""
    body = case.model_dump(mode="json")
    if isinstance(case, MatchCase):
        return matched(case)
    if isinstance(case, CrossoverCase):
        return Record(case=body, status="ok", metrics=crossovers(case.experts, case.tokens))
    if isinstance(case, ChinchillaCase):
        row = next(row for row in TABLE if row.model == case.model)
        return Record(case=body, status="ok", metrics=ratios(row))
    try:
        module, x = on_meta(subject, case)
    except ValueError as error:  # an implementation whose package is not installed
        return Record(case=body, status="skipped", reason=str(error))
    return Record(case=body, status="ok", metrics=costs(module, x))


def subject(case: LayerCase | DecoderCase) -> tuple[Any, torch.Tensor]:
    """The module under the counters and its input."""
    if isinstance(case, LayerCase):
        return build(case.layer, case.dim, case.options), torch.empty(case.tokens, case.dim)
    site = case.backbone.blocks // 2
    decoder = Decoder(case.backbone, case.vocabulary, case.layer, case.options, (site,))
    return decoder, torch.zeros(1, case.backbone.context, dtype=torch.long)


def costs(module: Any, x: torch.Tensor) -> Metrics:
    """All costs of one call: totals by counter, and every closed form by part."""
    counted = count(module, x)
    parts = {
        "forward_flops": counted.forward,
        "backward_flops": counted.backward,
        "parameters": module.parameter_parts(),
        "active_parameters": module.active_parameter_parts(),
        "bytes_moved": module.bytes_moved(x.shape[0]),
        "activation_bytes": module.activation_bytes(x.shape[0]),
    }
    metrics: Metrics = {form: sum(values.values()) for form, values in parts.items()}
    for counter, flops in counted.counted.items():
        metrics[f"{counter.replace(' ', '_')}_flops"] = flops
        listed = [d for d in counted.listed if d.counter == counter]
        metrics[f"{counter.replace(' ', '_')}_listed_flops"] = sum(d.flops for d in listed)
    metrics["differences"] = "; ".join(
        f"{d.counter}, {d.part}: {d.reason}" for d in counted.listed if "fvcore" not in d.counter
    )
    metrics["saved_bytes"] = saved_bytes(module, x, output_and_loss)
    for form, values in parts.items():
        metrics |= {f"{part}_{form}": value for part, value in values.items()}
    return metrics


def matched(case: MatchCase) -> Record:
    budget = dense_budget(case.budget, case.dim, case.tokens, case.tolerance)
    found = match(case.layer, case.dim, budget, case.tokens)
    return Record(
        case=case.model_dump(mode="json"),
        status="ok" if found.reason is None else "invalid",
        reason=found.reason,
        metrics={
            f"matched_{case.budget}": found.cost,
            f"reference_{case.budget}": int(budget.reference),
            "varied": canonical(found.varied),
        },
    )
