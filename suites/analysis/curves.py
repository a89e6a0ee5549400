"""The isoFLOP procedure (Hoffmann et al., arXiv 2203.15556, section 3.2): one budget, a ladder of sizes.

Per method and budget a parabola of mean validation loss in log parameters; its minimum is the
compute-optimal model. The interval is a bootstrap over seeds, at every size on its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from suites.errors import UserError
from suites.records.budget import Budget
from suites.records.cells import flat
from suites.records.names import short
from suites.records.record import Record, ResultFile, canonical

LOSS = "validation_loss_nats"
REPLICATES = 2000
CONFIDENCE = 0.95
SPIKE_NATS = 0.5  # a rise of the training loss by more is named
DROWNING = 10.0  # a layer that adds this many times what is there is named


@dataclass(frozen=True)
class Optimum:
    """The minimum of the parabola, with intervals over seeds where there are several."""

    parameters: float
    loss: float
    parameters_interval: tuple[float, float] | None
    loss_interval: tuple[float, float] | None


@dataclass(frozen=True)
class Curve:
    """One method at one budget; `runs` are its finished records, by backbone and seed."""

    label: str
    layer: str
    commit: str
    budget_flops: float
    runs: pd.DataFrame

    @cached_property
    def points(self) -> pd.DataFrame:
        """A row per backbone, by parameters: mean loss, spread and seeds."""
        sizes = self.runs.groupby(["parameters", "backbone"], as_index=False)
        return sizes.agg(
            loss=("loss", "mean"),
            std=("loss", "std"),
            seeds=("seed", "nunique"),
            tokens=("tokens", "first"),
            steps=("steps", "first"),
            active_parameters=("active_parameters", "first"),
            training_flops=("training_flops", "mean"),
            tokens_per_s=("tokens_per_s", "median"),
        ).sort_values("parameters", ignore_index=True)

    @cached_property
    def x(self) -> np.ndarray:
        """Log parameters (P,)."""
        return np.log(self.points["parameters"].to_numpy(dtype=float))

    @cached_property
    def parabola(self) -> np.ndarray:
        """Coefficients of the loss in log parameters, highest power first."""
        return np.polyfit(self.x, self.points["loss"].to_numpy(), 2)

    @property
    def residual_nats(self) -> float:
        """Root mean square distance of the points from the parabola."""
        gaps = self.points["loss"].to_numpy() - np.polyval(self.parabola, self.x)
        return float(np.sqrt(np.mean(gaps**2)))

    @property
    def unfit(self) -> str | None:
        """Why there is no optimum; None where there is one."""
        if len(self.points) < 3:
            return f"{len(self.points)} sizes; a parabola needs 3"
        best = int(self.points["loss"].idxmin())
        if best in (0, len(self.points) - 1):
            return f"minimum on the {'lower' if best == 0 else 'upper'} edge of the ladder"
        bend, slope, _ = self.parabola
        if bend <= 0 or not self.x[0] < -slope / (2 * bend) < self.x[-1]:
            return "the parabola has no minimum inside the ladder"
        return None

    @cached_property
    def optimum(self) -> Optimum | None:
        """None where the curve is `unfit`."""
        if self.unfit:
            return None
        x, loss = minimum(self.parabola, self.x)
        interval = self.bootstrap()
        return Optimum(
            parameters=float(np.exp(x)),
            loss=loss,
            parameters_interval=interval and interval[0],
            loss_interval=interval and interval[1],
        )

    def bootstrap(self) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """Intervals of the optimum's parameters and loss; None where a size has a single seed.

        Seeds are drawn with replacement; deviations are stretched by √(n/(n−1)), without which n
        draws from n seeds are too narrow. Minima that leave the ladder are held at its ends.
        """
        samples = [
            self.runs.loc[self.runs["backbone"] == backbone, "loss"].to_numpy()
            for backbone in self.points["backbone"]
        ]
        if min(map(len, samples)) < 2:
            return None
        generator = np.random.default_rng(0)
        means = []
        for sample in samples:
            drawn = generator.choice(sample, (REPLICATES, len(sample))).mean(axis=1)
            stretch = np.sqrt(len(sample) / (len(sample) - 1))
            means.append(sample.mean() + stretch * (drawn - sample.mean()))
        fits = np.polyfit(self.x, np.stack(means), 2).T
        found = np.array([minimum(fit, self.x) for fit in fits])
        low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
        return (float(np.exp(low[0])), float(np.exp(high[0]))), (float(low[1]), float(high[1]))

    def loss_by_seed(self) -> dict[int, float]:
        """The minimum of the parabola through each seed that has every size, for paired comparisons.

        With fewer than three sizes, the lowest of their losses.
        """
        table = self.runs.pivot_table(index="seed", columns="parameters", values="loss").dropna()
        return {int(seed): self.lowest(row.to_numpy()) for seed, row in table.iterrows()}

    def lowest(self, losses: np.ndarray) -> float:
        """Of one loss per size (P,)."""
        if len(losses) < 3:
            return float(losses.min())
        return minimum(np.polyfit(self.x, losses, 2), self.x)[1]

    def nearest_backbone(self) -> str:
        """The rung of the ladder nearest to the optimum, or the best rung where there is none."""
        if self.optimum is None:
            return str(self.points.loc[self.points["loss"].idxmin(), "backbone"])
        distance = np.abs(self.x - np.log(self.optimum.parameters))
        return str(self.points.loc[int(distance.argmin()), "backbone"])


def minimum(parabola: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """Place and value of the lowest point of a parabola between the ends of `x`."""
    bend, slope, _ = parabola
    ends = [float(x[0]), float(x[-1])]
    vertex = -slope / (2 * bend) if bend > 0 else ends[0]
    places = [*ends, min(max(float(vertex), ends[0]), ends[1])]
    values = [float(np.polyval(parabola, place)) for place in places]
    best = int(np.argmin(values))
    return places[best], values[best]


def curves(files: list[ResultFile]) -> list[Curve]:
    """Every method at every budget, in the order of the records.

    Raises UserError where nothing finished, where texts differ, and where training FLOPs miss the
    budget by more than 2 %.
    """
    runs = pd.DataFrame(list(flattened(files)))
    finished = runs[runs["status"] == "ok"]
    if finished.empty:
        raise UserError(
            "no finished run to print; failures were: " + "; ".join(sorted(set(runs["reason"])))
        )
    if finished["text"].nunique() > 1:
        raise UserError("the runs were made on different texts; compare them separately")
    for budget, rows in finished.groupby("budget_flops"):
        named = rows["label"] + " in " + rows["backbone"]
        Budget(kind="training_flops", reference=float(budget)).check(
            dict(zip(named, rows["training_flops"], strict=True))
        )
    groups = finished.groupby(["label", "commit", "budget_flops"], sort=False)
    return [
        Curve(
            label=str(label),
            layer=str(rows["layer"].iloc[0]),
            commit=str(commit),
            budget_flops=float(budget),
            runs=rows,
        )
        for (label, commit, budget), rows in groups
    ]


def flattened(files: list[ResultFile]) -> Iterator[dict[str, Any]]:
    records = [(file, record) for file in files for record in file.records]
    names = arm_names([record for _, record in records])
    for file, record in records:
        case, metrics = record.case, dict(record.metrics)
        backbone = case["backbone"]
        assert file.code is not None
        yield metrics | {
            "label": names[arm(record)],
            "layer": case["layer"],
            "backbone": f"{backbone['blocks']} × {backbone['dim']}",
            "budget_flops": case["budget_flops"],
            "seed": case["seed"],
            "text": canonical(case["text"]),
            "commit": (file.code.commit or "none")[:12] + ("+dirty" if file.code.dirty else ""),
            "status": record.status,
            "reason": record.reason,
            "loss": metrics.get(LOSS),
        }


def arm_names(records: list[Record]) -> dict[str, str]:
    """A layer's name, with the options in which its arms differ where it has several."""
    found: dict[str, dict[str, Any]] = {}
    layers: dict[str, str] = {}
    for record in records:
        found[arm(record)] = flat({"options": record.case["options"]})
        layers[arm(record)] = record.case["layer"]
    names = {}
    for key, options in found.items():
        others = [found[other] for other in found if layers[other] == layers[key]]
        varied = [
            short(name, value)
            for name, value in options.items()
            if len({canonical(other.get(name)) for other in others}) > 1
        ]
        names[key] = " ".join([layers[key], *varied])
    return names


def arm(record: Record) -> str:
    return canonical([record.case["layer"], record.case["options"]])


def spikes(record: Record) -> str | None:
    """Says where the training loss rose most above its lowest before, if by more than 0.5 nats.

    Single batches scatter, so the loss is the mean over a tenth of those reported.
    """
    losses = np.array(record.series.get("train_loss_nats", []))
    if not (window := len(losses) // 10):
        return None
    means = np.convolve(losses, np.ones(window) / window, mode="valid")
    rises = means - np.minimum.accumulate(means)
    worst = int(rises.argmax())
    if rises[worst] <= SPIKE_NATS:
        return None
    step = record.series["step"][worst + window - 1]
    return f"training loss rose by {rises[worst]:.2f} nats until step {step:.0f}"


def drowning(record: Record) -> float | None:
    """Times what the residual stream holds that a layer adds, where so much that nothing else is heard."""
    ratio = record.metrics.get("output_over_residual")
    return float(ratio) if isinstance(ratio, int | float) and ratio > DROWNING else None
