"""Verdicts on the paper's sentences, from constructed records and as the verb prints them."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from suites.paper import claims
from suites.paper.claims import CLAIMS, Claim, sheet
from suites.records.record import Code, Environment, Record, ResultFile
from suites.records.store import Store, write
from suites.registry import SUITES
from tests.lab import training_case

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = Environment(
    platform="p", cpu="c", cores=2, memory_bytes=1, gpu=None, python="3.11", packages={}
)
CODE = Code(commit="a" * 40, dirty=False, sha256="b" * 64)
# Loss of a method at log2 width w: a parabola with its minimum inside the ladder.
OFFSET = {"dense": 0.0, "expert_choice": -0.11, "pkm": -0.08, "peer": -0.14}


def claim(beginning: str, which: int = 0) -> Claim:
    return [one for one in CLAIMS if one.sentence.startswith(beginning)][which]


def file(suite: str, records: list[Record]) -> ResultFile:
    return ResultFile(
        suite=suite, profile="tiny", code=CODE, environment=ENVIRONMENT, records=records
    )


def record(seed: int, layer: str, options: dict, width: int, budget: float, **metrics) -> Record:
    case = training_case(layer, options, seed, budget, dim=width)
    given = {
        "training_flops": budget,
        "tokens": 1,
        "steps": 1,
        "tokens_per_s": 1.0,
        "parameters": width,
        "active_parameters": width,
    }
    return Record(case=case, status="ok", metrics=given | metrics)


def ladder(offset: dict[str, float], edge: bool = False) -> ResultFile:
    """Three seeds, two budgets; seeds differ by far more than methods, pairs hardly."""
    return file(
        "isoflop",
        [
            record(
                seed,
                layer,
                {},
                2**width,
                budget,
                validation_loss_nats=3
                + (width - (9 if edge else 5)) ** 2 / 50
                + 0.3 * seed
                + below * (1 + 0.02 * seed),
            )
            for seed in range(3)
            for budget in (1e9, 3e9)
            for layer, below in offset.items()
            for width in (3, 4, 5, 6, 7)
        ],
    )


def test_the_papers_order_is_reproduced_and_its_reverse_is_not() -> None:
    better = claim("PEER has a lower compute-optimal perplexity than dense")
    assert better.effect == pytest.approx(math.log(23.84 / 20.63))
    here = replace(better, at_flops=None)
    assert here.judged(ladder(OFFSET)).verdict == "agrees"
    reverse = {layer: -below for layer, below in OFFSET.items()}
    assert here.judged(ladder(reverse)).verdict == "disagrees"
    far = better.judged(ladder(OFFSET))
    assert far.verdict == "not testable at this scale (3.0e+09 FLOPs; 6e+18 in the paper)"
    assert (far.p, far.interval) == (None, here.judged(ladder(OFFSET)).interval)
    upper = claim("PEER has a lower compute-optimal perplexity than dense", which=1)
    assert upper.effect == pytest.approx(math.log(18.31 / 16.45))
    assert upper.judged(ladder(OFFSET)).interval.mean == pytest.approx(-0.14 * 1.02, abs=1e-6)


@pytest.mark.parametrize(
    ("per_decade", "noise", "step", "verdict"),
    [
        (-0.02, 1e-4, 3, "agrees"),
        (0.02, 1e-4, 3, "disagrees"),
        (0.0, 0.05, 3, "not testable at this scale (the trend's interval holds both)"),
        (-0.02, 1e-4, 1, "not testable at this scale (a line through 2.0 decades, 7.8 further on)"),
    ],
)
def test_a_trend_is_judged_as_far_on_as_it_was_seen(
    per_decade: float, noise: float, step: int, verdict: str
) -> None:
    heads = claim("PEER's compute-optimal loss heads below dense's")
    generator = np.random.default_rng(0)
    files = [
        file(
            "compute_trend",
            [
                record(
                    seed,
                    layer,
                    {},
                    8,
                    budget,
                    validation_loss_nats=3
                    + seed / 10
                    + (layer == "peer") * (per_decade * step * turn + noise * generator.normal()),
                )
                for seed in range(3)
                for layer in ("dense", "peer")
            ],
        )
        for turn, budget in enumerate((1e9, 1e9 * 10**step, 1e9 * 100**step))
    ]
    judged = heads.judged(*files)
    assert judged.verdict == verdict
    assert judged.interval.mean == pytest.approx(per_decade * math.log10(6e9), abs=20 * noise)
    assert heads.judged(*files[:2]).verdict == "not run"


def test_a_minimum_on_the_edge_is_no_optimum() -> None:
    judged = claim("PEER has a lower compute-optimal").judged(ladder(OFFSET, edge=True))
    assert judged.verdict.startswith("undecided (no optimum, peer: minimum on the upper edge")
    assert judged.interval is None


def varied(suite: str, loss, usage=lambda seed, N, norm: 100.0, uneven=lambda N, norm: 0.5):
    return file(
        suite,
        [
            record(
                seed,
                "peer",
                {"experts": N, "query_norm": norm},
                8,
                1e9,
                validation_loss_nats=loss(seed, N, norm),
                expert_usage_percent=usage(seed, N, norm),
                unevenness_nats=uneven(N, norm),
            )
            for seed in range(3)
            for N in (16, 64, 256)
            for norm in (None, "batch")
        ],
    )


def test_slopes_are_per_quadrupling() -> None:
    more = claim("more experts lower")
    made = varied("query_norm", lambda seed, N, norm: 3 + seed / 10 - 0.04 * math.log(N, 4))
    judged = more.judged(made)
    assert judged.interval.mean == pytest.approx(-0.04)
    assert more.effect == pytest.approx(0.0435, abs=1e-3)
    assert judged.favours == "agrees"


def test_norm_compares_with_and_without() -> None:
    made = varied(
        "query_norm",
        lambda seed, N, norm: 3 + seed / 10 - (0.02 if norm else 0),
        uneven=lambda N, norm: 0.2 if norm else 0.6,
    )
    assert claim("query batch norm makes").judged(made).interval.mean == pytest.approx(-0.4)
    assert claim("query batch norm lowers").judged(made).interval.mean == pytest.approx(-0.02)


def test_usage_is_judged_by_the_least_used() -> None:
    used = claim("nearly all experts")
    least = lambda seed, N, norm: 98.0 + 0.1 * seed if N == 256 and norm is None else 100.0  # noqa: E731
    some = varied("query_norm", lambda *_: 3.0, usage=least)
    assert used.judged(some).interval.mean == pytest.approx(1.4)
    assert used.judged(some).favours == "disagrees"
    assert used.judged(varied("query_norm", lambda *_: 3.0)).favours == "agrees"


@pytest.mark.parametrize(
    ("best", "verdict"),
    [({8: 2, 32: 8}, "agrees"), ({8: 8, 32: 2}, "disagrees"), ({8: 4, 32: 4}, None)],
)
def test_best_heads(best: dict[int, int], verdict: str | None) -> None:
    made = file(
        "active_experts",
        [
            record(
                seed,
                "peer",
                {"heads": heads, "topk": active // heads},
                8,
                1e9,
                validation_loss_nats=3 + abs(math.log2(heads / best[active])) - active / 1000,
            )
            for seed in range(3)
            for active in best
            for heads in (2, 4, 8)
        ],
    )
    judged = claim("the best number of heads").judged(made)
    assert judged.interval.mean == math.log2(best[8] / best[32])
    assert judged.verdict == (verdict or "disagrees")
    assert claim("more active experts").judged(made).interval.mean == pytest.approx(-0.024)


def test_what_was_not_run_says_so() -> None:
    printed = sheet("tiny", {}).frame
    assert len(printed) == len(CLAIMS)
    assert set(printed["verdict"]) == {"not run"}
    assert {claim.suite for claim in CLAIMS} <= set(SUITES)


def test_the_verb_reads_committed_records_without_torch(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = ladder(OFFSET)
    write(store.published_path(made), made)
    program = (
        "import sys\n"
        "from suites.verbs.claims import command\n"
        f"command(['--wide', '--results', {str(tmp_path)!r}], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Five pairs at two budgets, and active parameters that are equal.
    assert done.stdout.count("| not testable at this scale (") == 10
    assert done.stdout.count("| agrees ") == 1
    assert claims.sheet("tiny", {"isoflop": [made]}).markdown() in done.stdout
