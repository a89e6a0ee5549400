import pytest

from suites.binary.kernels import planned
from suites.records.quantity import quantity
from suites.records.store import Store

pytest.importorskip("triton")


@pytest.mark.slow
def test_counts_of_what_is_launched(suites, tmp_path):
    """The same counts twice, each judged as a count; a prediction is not."""
    for name in ("one", "other"):
        folder = tmp_path / name
        compiled = {"TRITON_INTERPRET": "0"}
        done = suites(
            "run", "kernels", "--profile", "smoke", "--results", folder, environment=compiled
        )
        assert done.returncode == 0, done.stderr
        assert "nothing measured" in done.stdout
    (one,), (other,) = (
        [file for _, file in Store(tmp_path / name).files("scratch")] for name in ("one", "other")
    )
    assert one.records == other.records
    assert [record.case_id for record in one.records] == planned("smoke", [one])
    for record in one.records:
        assert any(name.endswith(".registers") for name in record.metrics)
        for name in record.metrics:
            judged = quantity(name)
            assert (judged is None) == (name.startswith("predicted_") or name.endswith(".warps"))
            assert judged is None or judged.kind == "count"


@pytest.mark.slow
def test_interpreted_kernels_are_not_counted(suites, tmp_path):
    interpreted = {"TRITON_INTERPRET": "1"}
    done = suites(
        "run", "kernels", "--profile", "smoke", "--results", tmp_path, environment=interpreted
    )
    assert done.returncode != 0
    assert "TRITON_INTERPRET=1; unset it" in done.stderr
