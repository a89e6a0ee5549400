"""The share of a step's time in kernels."""

import json
import time
from pathlib import Path

import pytest

from suites.language_model import trace as traced
from suites.paper import methods
from suites.sweep.plan import UNREAD


@pytest.fixture
def case():
    return methods.PROFILES["smoke"].cases(UNREAD)[0]


def test_time_outside_of_kernels_is_seen(case, monkeypatch) -> None:
    busy = traced.trace(case, 256, 6, None)
    step = traced.training_step
    monkeypatch.setattr(traced, "training_step", lambda *given: (step(*given), time.sleep(0.05))[0])
    idle = traced.trace(case, 256, 6, None)
    assert idle.step_ms > 50
    assert idle.training_flops_per_s < busy.training_flops_per_s
    assert 0 < idle.in_kernels < busy.in_kernels < 1
    assert sum(idle.largest.values()) == pytest.approx(1)


def test_verb(suites, tmp_path: Path) -> None:
    words = ("trace", "methods", "--profile", "smoke", "--layer", "peer", "--steps", "4")
    done = suites(*words, "--output", tmp_path / "traces")
    assert done.returncode == 0, done.stderr
    assert "\npeer  " in done.stdout
    assert json.loads((tmp_path / "traces" / "peer.json").read_text())["traceEvents"]


def test_a_suite_that_trains_nothing_is_refused(suites) -> None:
    done = suites("trace", "flops")
    assert done.returncode == 2
    assert "flops trains nothing; those that do are methods, " in done.stderr
