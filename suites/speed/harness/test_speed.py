"""One benchmark per cell; samples of `suites.measure.time`, grouped by pytest-benchmark."""

import pytest

from suites.speed.harness.replay import clock

# A rival's deprecation warning is no reason to lose its time.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.benchmark(timer=clock.now)
def test_speed(cell, bench, controls, benchmark):
    """Measures, records, and hands the samples on; what cannot run is skipped with its reason."""
    record = bench.record(cell, controls[cell.suite])
    benchmark.group = cell.group
    benchmark.extra_info.update(record.model_dump(mode="json", exclude={"series"}))
    if record.status in ("oom", "skipped"):
        pytest.skip(f"{record.status}: {record.reason}")
    if record.status != "ok":
        pytest.fail(f"{record.status}: {record.reason}", pytrace=False)
    seconds = record.series["seconds"]
    clock.load(seconds)
    benchmark.pedantic(clock.advance, rounds=len(seconds))
