"""The experiments: numbers that one file takes from the records of another."""

import math
import statistics
from pathlib import Path

import pytest

from suites.beyond import successors, tuning_successors
from suites.figures import FIGURES
from suites.language_model.decoder import Decoder
from suites.measure.meta import on_meta
from suites.paper import compute_trend, isoflop, methods, router_flops, tuning
from suites.records.store import Store
from suites.registry import load
from suites.sweep.plan import UNREAD, Rates, plan
from suites.tables import TABLES
from suites.verbs.paper import ARTEFACTS

ROOT = Path(__file__).resolve().parents[2]


def test_every_method_has_the_same_number_of_trials() -> None:
    trials = [len(tuning.trials(arm)) for arm in methods.PROFILES["tiny"].arms]
    assert set(trials) == {9}
    assert not {*tuning.SEEDS} & {*methods.PROFILES["tiny"].seeds}


@pytest.mark.parametrize(
    ("suite", "arm"),
    [
        pytest.param(suite, arm, id=f"{suite}-{arm.layer}")
        for suite, found in (
            ("tuning", methods.PROFILES["tiny"].arms),
            ("tuning_isoflop", isoflop.PROFILES["tiny"].arms),
            ("tuning_successors", tuning_successors.first_arms(successors.PROFILES["tiny"])),
        )
        for arm in found
    ],
)
def test_learning_rates_are_the_best_trials(suite: str, arm) -> None:
    """Experiments state what the committed tuning records found."""
    files = [
        results for _, results in Store(ROOT / "results").files("records", f"{suite}-tiny/*.json")
    ]
    assert files, f"no committed records of {suite}"
    losses: dict[tuple[float, float], list[float]] = {}
    for record in files[-1].records:
        if record.case["layer"] == arm.layer:
            rates = record.case["optimization"]
            loss = record.metrics.get("validation_loss_nats", math.inf)
            losses.setdefault((rates["learning_rate"], rates["table_rate"]), []).append(loss)
    best = min(losses, key=lambda rates: sum(losses[rates]))
    assert (arm.optimization.learning_rate, arm.optimization.table_rate) == best


def test_rates_of_the_trend_are_the_best_trials() -> None:
    """The suite that shows effect against compute takes what was found at the narrow width."""
    files = Store(ROOT / "results").files("records", "tuning_trend-desk/*.json")
    _, results = max(files, key=lambda found: found[0])
    for arm in compute_trend.TUNED:
        losses: dict[str, list[float]] = {}
        for record in results.records:
            if record.case["layer"] == arm.layer:
                rates = record.case["optimization"]
                key = repr((rates["learning_rate"], rates.get("table_rates", {})))
                losses.setdefault(key, []).append(float(record.metrics["validation_loss_nats"]))
        best = min(losses, key=lambda rates: sum(losses[rates]))
        own = arm.optimization.table_rates or (
            {"values": arm.optimization.table_rate} if arm.layer == "pkm" else {}
        )
        assert repr((arm.optimization.learning_rate, own)) == best


def test_the_power_of_the_width_is_the_median_over_methods() -> None:
    """How much slower each method learns best at twice the width."""
    files = Store(ROOT / "results").files("records", "tuning_trend-desk_wide/*.json")
    _, results = max(files, key=lambda found: found[0])
    powers = []
    for arm in compute_trend.TUNED:
        losses: dict[float, list[float]] = {}
        for record in results.records:
            if record.case["layer"] == arm.layer:
                rate = float(record.case["optimization"]["learning_rate"])
                losses.setdefault(rate, []).append(float(record.metrics["validation_loss_nats"]))
        best = min(losses, key=lambda rate: sum(losses[rate]))
        wider = compute_trend.WIDE.dim / compute_trend.NARROW.dim
        powers.append(math.log(best / arm.optimization.learning_rate, wider))
        assert arm.optimization_at(64).learning_rate < arm.optimization_at(32).learning_rate
        assert arm.optimization_at(16) == arm.optimization_at(32)
    assert statistics.median(powers) == pytest.approx(-1.0)
    assert {arm.width_power for arm in compute_trend.TUNED} == {-1.0}


def test_the_tuning_table_has_a_row_per_trial(suites, tmp_path: Path) -> None:
    done = suites(
        "run", "tuning", "--profile", "smoke", "--layer", "dense", "--wide", "--results", tmp_path
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| dense")]
    assert len(rows) == len(tuning.WITHOUT_TABLES)


@pytest.mark.parametrize("suite", ARTEFACTS)
def test_an_artefact_is_planned_within_its_budget_and_has_a_table(suite: str) -> None:
    module = load(suite)
    for profile in module.PROFILES.values():
        assert plan(profile, profile.vocabulary, Rates())
    assert suite in TABLES
    assert suite in FIGURES or suite in ("table1", "causality")
    card = [line.partition(":")[0] for line in module.__doc__.splitlines()]
    assert [
        word for word in card if word in ("Claim", "Differs from the paper", "Cost", "Run", "Read")
    ] == [
        "Claim",
        "Differs from the paper",
        "Cost",
        "Run",
        "Read",
    ]


@pytest.mark.parametrize("profile", isoflop.PROFILES)
def test_artefacts_share_runs(profile: str) -> None:
    """Figure 3a is the batch norm half of Table 2 and has a point of Figure 1."""
    shared = {
        suite: {case.model_dump_json() for case in load(suite).PROFILES[profile].cases(UNREAD)}
        for suite in ("isoflop", "number_of_experts", "query_norm", "query_norm_isoflop", "keys")
    }
    assert shared["number_of_experts"] < shared["query_norm"]
    for suite in ("number_of_experts", "query_norm_isoflop", "keys"):
        assert shared["isoflop"] & shared[suite]


@pytest.mark.parametrize("name", router_flops.PROFILES)
def test_a_free_router_buys_what_it_would_have_cost(name: str) -> None:
    profile = router_flops.PROFILES[name]
    case = profile.cases(UNREAD)[1]
    model = on_meta(
        Decoder, case.backbone, profile.vocabulary, case.layer, case.options, case.sites
    )
    flops = model.flops(1)
    router = flops["ffw_query"] + flops["ffw_sub_keys"]
    factor = sum(flops.values()) / (sum(flops.values()) - router)
    assert router_flops.WITHOUT_ROUTER[name] == pytest.approx(factor, abs=1e-3)


def test_paper_makes_artefacts_twice_with_the_same_digest(suites, tmp_path: Path) -> None:
    words = ("paper", "--profile", "smoke", "--only", "keys")
    ends = []
    for folder in ("one", "two"):
        done = suites(*words, "--results", tmp_path / folder)
        assert done.returncode == 0, done.stderr
        assert "# keys, profile smoke" in done.stdout
        assert "# The paper's claims, profile smoke" in done.stdout
        ends.append(done.stdout.splitlines()[-1])
    assert ends[0].startswith("all other columns: sha256 ")
    assert ends[0] == ends[1]


def test_paper_plans_everything_and_its_total(suites, tmp_path: Path) -> None:
    done = suites("paper", "--profile", "paper", "--plan", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "# isoflop" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("all of profile paper: ")
    assert not any(tmp_path.iterdir())


def test_figure_1_and_table_1_are_made_of_the_same_runs(suites, tmp_path: Path) -> None:
    passages = tmp_path / "pile.jsonl"
    passages.write_text('{"text": "One million experts, one neuron each."}\n')
    words = ("--profile", "smoke", "--layer", "dense", "--evaluation", f"pile={passages}")
    done = suites("run", "isoflop", *words, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "# isoflop, profile smoke: compute-optimal models" in done.stdout
    assert "# isoflop, profile smoke: every point" in done.stdout
    folder = Path(done.stdout.split(" in ")[-1].strip())
    written = {path.name for path in folder.iterdir()}
    assert written >= {"records.json", "optima.md", "points.csv", "optima.tex", "isoflop.svg"}
    again = suites("run", "table1", *words, "--results", tmp_path)
    assert again.returncode == 0, again.stderr
    assert "6 of 6 runs exist already" in again.stderr
    assert "Pile: pile.jsonl, sha256 " in again.stdout
    assert "C4 is a gap" in again.stdout
