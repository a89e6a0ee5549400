"""Cells and records small enough for a test."""

import pytest

from suites.records.record import Code, Environment, Record, ResultFile
from suites.speed.cells.case import Cell


@pytest.fixture
def cell() -> Cell:
    """A dense layer of width 16 on 8 tokens."""
    return Cell(
        suite="layer_speed",
        layer="dense",
        options={"hidden": 32},
        tokens=8,
        dim=16,
        experts=64,
        active_experts=4,
        dtype="float32",
        routing="uniform",
        phase="forward",
        matched="forward_flops",
        device="cpu",
        threads=1,
    )


@pytest.fixture
def result_file():
    """Makes a file of one record, as the suite writes it, from a cell and the record's fields."""

    def make(cell: Cell, **fields) -> ResultFile:
        return ResultFile(
            suite=cell.suite,
            profile="tiny",
            code=Code(commit="a" * 40, dirty=False, sha256="b" * 64),
            environment=Environment(
                platform="Linux x86_64",
                cpu="a CPU",
                cores=2,
                memory_bytes=2**33,
                gpu=None,
                python="3.11.0",
                packages={"torch": "2.13.0"},
            ),
            records=[Record(case=cell.model_dump(mode="json"), **fields)],
        )

    return make
