import pytest

from peer import predicted
from suites.binary.kernels import planned
from suites.records.quantity import quantity
from suites.records.store import Store

pytest.importorskip("triton")


@pytest.mark.slow
def test_counts_of_what_is_launched(suites, tmp_path):
    """Each judged as a count; a prediction is not judged."""
    run = ("run", "kernels", "--profile", "smoke", "--results", tmp_path)
    done = suites(*run, environment={"TRITON_INTERPRET": "0"})
    assert done.returncode == 0, done.stderr
    assert "nothing measured" in done.stdout
    ((_, file),) = Store(tmp_path).files("scratch")
    assert [record.case_id for record in file.records] == planned("smoke", [file])
    for record in file.records:
        assert_foretold(record.case["operation"], record.metrics)
        assert any(name.endswith(".registers") for name in record.metrics)
        for name in record.metrics:
            judged = quantity(name)
            assert (judged is None) == (name.startswith("predicted_") or name.endswith(".warps"))
            assert judged is None or judged.kind == "count"


def assert_foretold(operation, metrics):
    """What peer predicts from is near what this compiler makes of the kernels as they are."""
    foretold = predicted.counted(operation, 128 if operation.startswith("retrieve") else 64)
    assert foretold
    for name, instructions in foretold.items():
        assert metrics[f"{name}_instructions"] == pytest.approx(instructions, rel=0.15), name


@pytest.mark.slow
def test_interpreted_kernels_are_not_counted(suites, tmp_path):
    interpreted = {"TRITON_INTERPRET": "1"}
    done = suites(
        "run", "kernels", "--profile", "smoke", "--results", tmp_path, environment=interpreted
    )
    assert done.returncode != 0
    assert "TRITON_INTERPRET=1; unset it" in done.stderr
