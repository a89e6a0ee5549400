"""One cell to one record: samples, what they amount to, memory, error; or why there are none."""

import gc
import math
from typing import Any

import numpy
import torch

from suites.measure.memory import allocation, available_bytes
from suites.measure.time import CudaTimer, Timer
from suites.records.record import Record, Status
from suites.speed.cells.case import Cell
from suites.speed.cells.demand import Roof, element_bytes
from suites.speed.harness.autotune import winners
from suites.speed.harness.estimate import estimate
from suites.speed.harness.prepared import Prepared, prepare
from suites.speed.subjects.subject import NotInstalled

SAMPLED_S, FEWEST, MOST = 0.2, 5, 100
WARM_S, WARM_AT_MOST_S = 0.05, 0.3
Metrics = dict[str, float | int | str | None]


def measure(cell: Cell, timer: Timer, roof: Roof | None, watch: Any) -> Record:
    """Never raises for what the cell does: a failure is a record with a status and a reason."""
    case = cell.model_dump(mode="json")
    needed, available = estimate(cell).bytes, available_bytes(cell.device)
    if needed > available:
        reason = f"predicted: needs at least {needed:,} bytes, {available:,} are available"
        return Record(case=case, status="oom", reason=reason)
    try:
        return measured(prepare(cell, timer), roof, watch)
    except NotInstalled as missing:
        return Record(case=case, status="skipped", reason=str(missing))
    except Exception as error:
        status: Status = "oom" if is_out_of_memory(error) else "error"
        return Record(case=case, status=status, reason=f"{type(error).__name__}: {summary(error)}")
    finally:
        release(cell)


def measured(prepared: Prepared, roof: Roof | None, watch: Any) -> Record:
    """Warm-up, samples, then a pass for memory and one for the error."""
    cell = prepared.cell
    call_s = prepared.warm_up(WARM_S, WARM_AT_MOST_S)
    count = min(MOST, max(FEWEST, math.ceil(SAMPLED_S / call_s)))
    watch.begin()
    seconds = prepared.sample(count)
    seen = watch.conditions()
    series, warm_l2_s = {"seconds": seconds}, None
    if isinstance(prepared.timer, CudaTimer):
        warm = prepared.timer.warm()
        series["warm_l2_seconds"] = warm.sample(prepared.run, prepared.before, FEWEST)
        warm_l2_s = float(numpy.median(series["warm_l2_seconds"]))
    return Record(
        case=cell.model_dump(mode="json"),
        status="invalid" if seen.reasons else "ok",
        reason="; ".join(seen.reasons) or None,
        metrics={
            **times(seconds),
            "warm_l2_median_s": warm_l2_s,
            **rates(prepared, float(numpy.median(seconds)), roof),
            **memory(prepared),
            **error(prepared),
            **prepared.subject.sizes,
            "unique_experts": prepared.subject.unique_experts,
            "autotune_winners": winners(),
            **seen.metrics,
        },
        series=series,
    )


def times(seconds: list[float]) -> Metrics:
    lower, middle, upper = numpy.percentile(seconds, (25, 50, 75)).tolist()
    return {"median_s": middle, "quartile1_s": lower, "quartile3_s": upper}


def rates(prepared: Prepared, median_s: float, roof: Roof | None) -> Metrics:
    """What the median achieved, and how far it is from the roof of this run."""
    cell, demand = prepared.cell, prepared.subject.demand
    flops = demand.flops(cell.phase)
    moved = demand.bytes(cell.phase, element_bytes(cell))
    achieved: Metrics = {
        "flops": flops,
        "bytes_moved": moved,
        "flops_per_s": flops / median_s,
        "bytes_per_s": moved / median_s,
    }
    if not cell.is_control:
        achieved["tokens_per_s"] = cell.tokens / median_s
    if roof is None:
        return achieved
    floor_s = roof.floor_s(flops, moved)
    return achieved | {
        "roof_flops_per_s": roof.flops_per_s,
        "roof_bytes_per_s": roof.bytes_per_s,
        "percent_of_gemm_roof": 100 * flops / median_s / roof.flops_per_s,
        "percent_of_copy_roof": 100 * moved / median_s / roof.bytes_per_s,
        "floor_s": floor_s,
        "time_over_floor": median_s / floor_s,
    }


def memory(prepared: Prepared) -> Metrics:
    """Peak of the timed call; what a forward keeps for its backward, the output left out."""
    cell = prepared.cell
    prepared.before()
    peak = allocation(cell.device, prepared.run)
    counted: Metrics = {"peak_bytes": peak.peak_bytes, "reserved_bytes": peak.reserved_bytes}
    if cell.phase != "inference":
        prepared.output = None
        forward = allocation(cell.device, lambda: prepared.call(*prepared.subject.inputs))
        output = prepared.subject.output_bytes()
        counted["activation_bytes"] = max(0, forward.kept_bytes - output)
    return counted


@torch.no_grad()
def error(prepared: Prepared) -> Metrics:
    """‖y − reference‖ / ‖reference‖ over the first tokens, for what has a reference."""
    subject = prepared.subject
    if subject.probe is None or subject.truth is None:
        return {}
    if subject.module is not None:
        subject.module.eval()  # batch statistics would depend on how many tokens are probed
    output, truth = subject.probe().double(), subject.truth().double()
    return {"relative_error": ((output - truth).norm() / truth.norm()).item()}


def is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def summary(error: Exception) -> str:
    """The first line, without addresses or paths that change from run to run."""
    return (str(error).strip().splitlines() or ["no message"])[0][:300]


def release(cell: Cell) -> None:
    """Leaves nothing of this cell to the next one."""
    if cell.compiled:
        torch.compiler.reset()
    gc.collect()
    if cell.device == "cuda":
        torch.cuda.empty_cache()
