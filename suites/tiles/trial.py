"""One trial to one record: the kernel's results against those of its counted settings, then its time."""

import math
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from peer import kernels
from peer.kernels import tuned
from suites.measure.time import Timer, warm_up
from suites.records.record import Record
from suites.tiles.case import Trial

Call = Callable[[], tuple[Tensor, ...]]
SAMPLED_S, FEWEST, MOST = 0.05, 5, 50
WARM_S, WARM_AT_MOST_S = 0.02, 0.2
# Settings only change the order in which float32 sums are added; a result is rounded to bfloat16.
MOST_ERROR = 2**-7


class Bench:
    """Operands of one size, and the results of the counted settings on them."""

    def __init__(self, trial: Trial, device: str) -> None:
        self.trial, self.device = trial, device
        self.call = CALLS[trial.kernel](self)
        self.wanted = self.call()

    def normal(self, *shape: int, std: float = 1.0) -> Tensor:
        values = torch.randn(shape, device=self.device, dtype=torch.bfloat16)
        return values.mul_(std)

    def ids(self) -> Tensor:
        shape = (self.trial.tokens, self.trial.heads * self.trial.topk)
        return torch.randint(self.trial.experts, shape, device=self.device, dtype=torch.int32)

    def record(self, trial: Trial, timer: Timer) -> Record:
        """Never raises for what the settings do: those that cannot run are a record with a reason."""
        case = trial.model_dump(mode="json")
        try:
            with tuned.trying(trial.kernel, trial.settings):
                off = max(map(difference, self.call(), self.wanted))
                if not off <= MOST_ERROR:
                    reason = f"results differ by {off:.1e} from those of the counted settings"
                    return Record(case=case, status="error", reason=reason)
                call_s = warm_up(timer, self.call, nothing, WARM_S, WARM_AT_MOST_S)
                count = min(MOST, max(FEWEST, math.ceil(SAMPLED_S / call_s)))
                seconds = timer.sample(self.call, nothing, count)
        except Exception as error:
            reason = (
                f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0][:300]}"
            )
            return Record(case=case, status="error", reason=reason)
        metrics = {"median_s": median(seconds), "relative_error": off}
        return Record(case=case, status="ok", metrics=metrics, series={"seconds": seconds})


def nothing() -> None:
    pass


def difference(found: Tensor, wanted: Tensor) -> float:
    """The largest, of the largest number, a NaN anywhere being one; of ids, the share that differs."""
    if wanted.numel() == 0:
        return 0.0
    if not wanted.is_floating_point():
        return (found != wanted).float().mean().item()
    scale = wanted.abs().max().float().clamp(min=1e-30)
    return ((found.float() - wanted.float()).abs().max() / scale).item()


def fused(bench: Bench) -> Call:
    trial, ids = bench.trial, bench.ids()
    x, scores = bench.normal(trial.tokens, trial.dim), bench.normal(*ids.shape)
    down = bench.normal(trial.experts, trial.dim, std=trial.dim**-0.5)
    up = bench.normal(trial.experts, trial.dim)
    return lambda: kernels.fused_experts(x, ids, scores, down, up, None, "gelu")[:2]


def runs(bench: Bench) -> Call:
    trial, ids = bench.trial, bench.ids()
    x, grad = bench.normal(trial.tokens, trial.dim), bench.normal(trial.tokens, trial.dim)
    scores, hidden = bench.normal(*ids.shape), bench.normal(*ids.shape).float()
    up = bench.normal(trial.experts, trial.dim)
    order, experts = kernels.route(ids, trial.experts)
    touched = kernels.touched(experts)  # a dense gradient's zeros would hide the kernel

    def call() -> tuple[Tensor, ...]:
        dscores, dhidden, _, tables = kernels.experts_gradients(
            grad, x, scores, up, None, order, experts, touched, hidden, hidden[:0, 0], "gelu"
        )
        return dscores, dhidden, *tables

    return call


def sums(bench: Bench) -> Call:
    trial, ids = bench.trial, bench.ids()
    weights, table = bench.normal(*ids.shape).float(), bench.normal(trial.experts, trial.dim)
    return lambda: (kernels.weighted_sum(weights, table, ids),)


def retrieve(bench: Bench) -> Call:
    trial = bench.trial
    query = bench.normal(trial.tokens, trial.heads, trial.dim_key)
    keys = bench.normal(2, math.isqrt(trial.experts), trial.dim_key // 2)
    return lambda: kernels.retrieve(query, keys, trial.topk, "softmax")


CALLS: dict[str, Callable[[Bench], Call]] = {
    "fused_experts_kernel": fused,
    "runs_kernel": runs,
    "weighted_sum_kernel": sums,
    "retrieve_kernel": retrieve,
}
