"""What a metric measures and which direction is worse, read off the unit at the end of its name."""

from typing import Literal, NamedTuple

from suites.errors import UserError

Kind = Literal["loss", "time", "bytes", "count"]


class Quantity(NamedTuple):
    kind: Kind
    higher_is_worse: bool = True

    @property
    def needs_like_machines(self) -> bool:
        """Losses and counts compare anywhere, time and measured memory within one machine."""
        return self.kind in ("time", "bytes")


# suffix → quantity; the first that fits, so the longer ones come first
SUFFIXES: dict[str, Quantity] = {
    "_per_s": Quantity("time", higher_is_worse=False),
    "_ns": Quantity("time"),
    "_us": Quantity("time"),
    "_ms": Quantity("time"),
    "_s": Quantity("time"),
    "peak_bytes": Quantity("bytes"),
    "reserved_bytes": Quantity("bytes"),
    "row_load_bytes": Quantity("count", higher_is_worse=False),
    "in_flight_bytes": Quantity("count", higher_is_worse=False),
    "_bytes": Quantity("count"),
    "resident_warps": Quantity("count", higher_is_worse=False),
    "instructions": Quantity("count"),
    "barriers": Quantity("count"),
    "launches": Quantity("count"),
    "bytes_moved": Quantity("count"),
    "flops": Quantity("count"),
    "flops_per_token": Quantity("count"),
    "parameters": Quantity("count"),
    "registers": Quantity("count"),
    "spills": Quantity("count"),
    "crossover_width": Quantity("count"),
    "ratio": Quantity("count"),
    "loss_nats": Quantity("loss"),
    "leak_nats": Quantity("loss"),
    "unevenness_nats": Quantity("loss"),
    "usage_percent": Quantity("loss", higher_is_worse=False),
    "perplexity": Quantity("loss"),
    "relative_error": Quantity("loss"),
    "preactivation_std": Quantity("loss"),
    "output_over_residual": Quantity("loss"),
}

# Not judged: they follow from the case or from a metric that is.
FOLLOWS = {
    **{
        f"{name}_{metric}": cause
        for name in ("curation", "lambada", "pile", "wikitext", "c4")
        for metric, cause in {
            "documents": "the case",
            "tokens": "the case",
            "utf8_bytes": "the case",
            "perplexity": f"{name}_loss_nats",
            "bits_per_byte": f"{name}_loss_nats",
            "last_word_accuracy": f"{name}_loss_nats",
        }.items()
    },
    "bits_per_byte": "loss_nats",
    "bytes_per_s": "median_s",
    "cpu_wait_percent": "the machine",
    "epochs": "tokens",
    "evaluation_tokens": "the case",
    "floor_s": "the roof",
    "flops_per_s": "median_s",
    "leak_tokens": "the case",
    "load_average": "the machine",
    "memory_clock_mhz": "the machine",
    **dict.fromkeys(
        ("predicted_least_us", "predicted_likely_us", "predicted_most_us"), "the instructions"
    ),
    "predicted_floor_us": "the case",
    "percent_of_copy_roof": "median_s",
    "percent_of_gemm_roof": "median_s",
    "power_capped": "the machine",
    "power_watts": "the machine",
    "quartile1_s": "median_s",
    "quartile3_s": "median_s",
    "roof_bytes_per_s": "the copy control",
    "roof_flops_per_s": "the gemm control",
    "sm_clock_mhz": "the machine",
    "steps": "flops_per_token",
    "temperature_celsius": "the machine",
    "time_over_floor": "median_s",
    "tokens": "flops_per_token",
    "train_s": "tokens_per_s",
    "training_flops": "the case",
    "unique_experts": "the case",
    "validation_bits_per_byte": "validation_loss_nats",
    "validation_perplexity": "validation_loss_nats",
}


def has_unit(metric: str) -> bool:
    return metric in FOLLOWS or metric.endswith(tuple(SUFFIXES))


def quantity(metric: str) -> Quantity | None:
    """None for a metric that follows from others; raises UserError for a name without a unit."""
    if metric in FOLLOWS or metric.endswith(".warps"):
        return None
    for suffix, found in SUFFIXES.items():
        if metric.endswith(suffix):
            return found
    raise UserError(
        f"metric {metric!r} has no known unit; end its name with one of {', '.join(SUFFIXES)}, "
        "or say in suites/records/quantity.py what it follows from"
    )
