"""How profiles are written: points of a grid, and the cells of one comparison at a point."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache

from suites.records.budget import Kind
from suites.records.record import Model
from suites.speed.cells.case import Cell, Phase, Routing
from suites.speed.cells.matched import Options, Point, baseline

# A row of a comparison: layer, operation or rival; implementation; under torch.compile or not.
Row = tuple[str, str | None, bool]
RIVALS = ("peer_pytorch", "product_key_memory")


class Machine(Model):
    """Where a profile runs, and how large its controls and its MoE baselines are."""

    device: str
    threads: int
    dtype: str
    copy_bytes: int
    gemm_size: int
    moe_experts: int


TWO_CORES = Machine(
    device="cpu",
    threads=1,  # the second core is left to the system: one thread repeats within percents
    dtype="float32",
    copy_bytes=2**27,
    gemm_size=1024,
    moe_experts=16,
)
ONE_GPU = Machine(
    device="cuda",
    threads=1,
    dtype="bfloat16",
    copy_bytes=2**30,
    gemm_size=8192,
    moe_experts=64,
)


class Profiles(Mapping[str, tuple[Cell, ...]]):
    """The cells of each profile, made when they are asked for: naming profiles needs no layer."""

    def __init__(self, **made: Callable[[], tuple[Cell, ...]]) -> None:
        self.made = {name: cache(make) for name, make in made.items()}

    def __getitem__(self, name: str) -> tuple[Cell, ...]:
        return self.made[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self.made)

    def __len__(self) -> int:
        return len(self.made)


def comparison(
    suite: str,
    machine: Machine,
    point: Point,
    rows: Iterable[Row],
    phases: Iterable[Phase],
    *,
    matched: Kind | None = "forward_flops",
    routing: Routing = "uniform",
    dtype: str | None = None,
) -> list[Cell]:
    """One cell per row and phase at `point`."""
    return [
        Cell.model_validate(
            {
                "suite": suite,
                "layer": layer,
                "options": options(layer, impl, point, matched, machine.moe_experts),
                "compiled": compiled,
                "tokens": point.tokens,
                "dim": point.dim,
                "experts": point.experts,
                "active_experts": point.active_experts,
                "dtype": dtype or machine.dtype,
                "routing": routing,
                "phase": phase,
                "matched": matched,
                "device": machine.device,
                "threads": machine.threads,
            }
        )
        for phase in phases
        for layer, impl, compiled in rows
    ]


def options(
    layer: str, impl: str | None, point: Point, matched: Kind | None, moe_experts: int
) -> Options:
    from suites.layers import LAYERS, resolve_options

    chosen: Options = {} if impl is None else {"impl": impl}
    if layer in LAYERS:
        assert matched is not None
        return resolve_options(layer, baseline(layer, point, matched, moe_experts) | chosen)
    if layer in RIVALS:
        tables = 2 if layer == "peer_pytorch" else 1
        return {"heads": point.heads, "topk": 2 * point.topk // tables}
    return chosen


def with_controls(cells: list[Cell], machine: Machine) -> tuple[Cell, ...]:
    """Copy and GEMM of every dtype, `cells` without repetition, and the first of them again."""
    distinct = list(dict.fromkeys(cell.name for cell in cells))
    by_name = {cell.name: cell for cell in cells}
    cells = [by_name[name] for name in distinct]
    again = cells[0].model_copy(update={"repeat": 1})
    return (*controls(cells, machine), *cells, again)


def controls(cells: list[Cell], machine: Machine) -> list[Cell]:
    sizes: dict[str, Options] = {
        "copy": {"bytes": machine.copy_bytes},
        "gemm": {"size": machine.gemm_size},
    }
    shape = {"tokens": 1, "dim": 1, "experts": 1, "active_experts": 1, "matched": None}
    return [
        cells[0].model_copy(
            update={
                "layer": name,
                "options": sizes[name],
                "phase": "inference",
                "routing": "uniform",
                "dtype": dtype,
                "compiled": False,
                "backbone": None,
                "vocabulary": None,
                **shape,
            }
        )
        for dtype in dict.fromkeys(cell.dtype for cell in cells)
        for name in sizes
    ]
