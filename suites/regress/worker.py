"""The process that measures cells of one commit: a Request per line in, a Reply per line out."""

import sys
import time
from pathlib import Path
from typing import Any

from pydantic import Field

from suites.binary.case import Case
from suites.records.record import Model
from suites.regress.clock import ProcessorTimer
from suites.speed.cells.case import Cell

MODULES = ("peer", "baselines", "suites.layers")
WARM_UP_S = 0.3


class Request(Model):
    """With a cell: build it, and count it or warm it up. With kernels: compile and count those, in a
    process that does nothing else. Without: sample the cell built last.
    """

    cell: Cell | None = None
    kernels: Case | None = None
    exact: bool = False
    samples: int = 0


class Reply(Model):
    """`failure` says why there is no number, `invalid` why the numbers must not be used."""

    per_call_s: float | None = None
    samples_s: list[float] = Field(default=[])
    counts: dict[str, float] = Field(default={})
    failure: str | None = None
    invalid: str | None = None


class OutsideWorktree(RuntimeError):
    """Stale or foreign code would be measured."""


def main(tree: Path, slowdown: float) -> None:
    """`slowdown` is for the self-test: a wait of that share follows every call but a control's."""
    check_imports(tree)
    prepared = None
    for line in sys.stdin:
        request = Request.model_validate_json(line)
        try:
            if request.cell is not None:
                prepared = None  # frees the last cell before the next is built
                prepared, reply = built(request.cell, request.exact, slowdown)
            elif request.kernels is not None:
                reply = Reply(counts=kernel_counts(request.kernels))
            else:
                reply = sampled(prepared, request.samples)
        except Exception as error:
            reply = Reply(failure=f"{type(error).__name__}: {error}")
        print(reply.model_dump_json(), flush=True)
    check_imports(tree)


def check_imports(tree: Path) -> None:
    """Every module of the measured packages must lie in the worktree."""
    import suites.layers  # noqa: F401  (imports peer and baselines)

    for name, module in list(sys.modules.items()):
        if name in MODULES or name.split(".")[0] in MODULES[:2]:
            path = Path(module.__file__ or "").resolve()
            if not path.is_relative_to(tree.resolve()):
                raise OutsideWorktree(f"{name} was imported from {path}, not from {tree}")


def built(cell: Cell, exact: bool, slowdown: float) -> tuple[Any, Reply]:
    from suites.speed.harness.prepared import prepare

    prepared = prepare(cell, ProcessorTimer() if cell.device == "cpu" else None)
    if exact:
        return prepared, Reply(counts=counts(prepared))
    if slowdown and not cell.is_control:
        slow_down(prepared, slowdown)
    return prepared, Reply(per_call_s=prepared.warm_up(at_most_s=WARM_UP_S))


def sampled(prepared: Any, count: int) -> Reply:
    from suites.measure.conditions import watch

    samples = prepared.sample(count)
    reasons = watch(prepared.cell.device).conditions().reasons
    return Reply(samples_s=samples, invalid="; ".join(reasons) or None)


def counts(prepared: Any) -> dict[str, float]:
    """FLOPs, parameters and compulsory bytes in closed form; the allocator's peak of one call."""
    from suites.measure.memory import allocation

    sizes = prepared.subject.sizes
    found = {name: float(v) for name, v in sizes.items() if isinstance(v, int | float)}
    prepared.before()
    prepared.run()
    prepared.before()
    peak = allocation(prepared.cell.device, prepared.run).peak_bytes
    return found | {"allocator_peak_bytes": float(peak)}


def kernel_counts(case: Case) -> dict[str, float]:
    from suites.binary import count
    from suites.regress.kernels import judged

    return judged(count.counts(case))


def slow_down(prepared: Any, share: float) -> None:
    """Makes every timed call longer by `share`: busy on the CPU, by an idle kernel on a GPU."""
    call = prepared.run
    if prepared.cell.device == "cpu":

        def run() -> Any:
            start = time.process_time()
            result = call()
            until = start + (1 + share) * (time.process_time() - start)
            while time.process_time() < until:
                pass
            return result
    else:
        import torch

        rate_hz = 1000 * torch.cuda.get_device_properties(0).clock_rate
        cycles = int(share * prepared.warm_up() * rate_hz)

        def run() -> Any:
            result = call()
            torch.cuda._sleep(cycles)
            return result

    prepared.run = run


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
