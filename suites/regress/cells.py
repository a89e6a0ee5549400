"""What a gate times: PEER's layer, what it is compared with, and a GEMM as control."""

from suites.speed.cells.case import Cell, Phase
from suites.speed.cells.grid import ONE_GPU, TWO_CORES, Machine, comparison, controls
from suites.speed.cells.matched import Options, Point, baseline

FORWARD = ("dense", "topk_moe", "pkm", "peer")
TRAINING = ("dense", "peer")
POINTS = {
    "cpu": Point(dim=128, experts=64**2, heads=4, topk=16, tokens=128),
    "cuda": Point(dim=1024, experts=1024**2, heads=8, topk=16, tokens=8192),
}
MACHINES = {"cpu": TWO_CORES.model_copy(update={"gemm_size": 512}), "cuda": ONE_GPU}


def gate_cells(device: str, quick: bool) -> list[Cell]:
    """The control first; `quick` leaves PEER and dense in forward."""
    machine, point = MACHINES[device], POINTS[device]
    phases: dict[Phase, tuple[str, ...]] = {"forward": FORWARD, "training_step": TRAINING}
    if quick:
        phases = {"forward": TRAINING}
    cells = [
        cell.model_copy(update={"options": options(cell.layer, machine, point)})
        for phase, layers in phases.items()
        for cell in comparison(
            "regress", machine, point, [(layer, None, False) for layer in layers], [phase]
        )
    ]
    return [cell for cell in controls(cells, machine) if cell.layer == "gemm"] + cells


def options(layer: str, machine: Machine, point: Point) -> Options:
    """Only what the comparison sets: an older commit may not know a newer default's name."""
    return baseline(layer, point, "forward_flops", machine.moe_experts)
