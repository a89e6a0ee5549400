"""Profiles, their plan, and runs that several suites share."""

import os
import socket
from pathlib import Path

import pytest

from suites.errors import UserError
from suites.language_model.case import Backbone, Optimization, TrainingCase
from suites.language_model.train import dump
from suites.paper import isoflop, methods
from suites.records.record import Record, ResultFile
from suites.records.store import Store, read
from suites.registry import PAPER_SUITES, load
from suites.sweep.experiment import Arm, Profile, planned
from suites.sweep.plan import UNREAD, Rates, plan
from suites.sweep.runs import Runs
from suites.text.case import Evaluation
from tests.lab import environment, training

RATES = Optimization(learning_rate=1e-3, table_rate=1e-2)


def profile(**changes) -> Profile:
    small = [Backbone(blocks=b, dim=8, attention_heads=2, context=8) for b in (2, 4)]
    fields = {
        "arms": (
            Arm(layer="dense", optimization=RATES),
            Arm(layer="peer", options={"experts": 256}, sites=(0, 1), optimization=RATES),
        ),
        "backbones": tuple(small),
        "budgets_flops": (1e9, 2e9),
        "batch_sequences": 2,
        "evaluation_tokens": 100,
        "seeds": (3, 4),
        "device": "cpu",
        "threads": 1,
    }
    return Profile(**fields | changes)


def test_cases_are_the_product_with_seeds_outermost() -> None:
    cases = profile().cases(UNREAD)
    assert len(cases) == 2 * 2 * 2 * 2
    assert [case.seed for case in cases] == [3] * 8 + [4] * 8
    assert [case.sites for case in cases[:4]] == [(1,), (0, 1), (2,), (0, 1)]
    assert [case.budget_flops for case in cases[:8]] == [1e9] * 4 + [2e9] * 4


@pytest.mark.parametrize("suite", PAPER_SUITES)
def test_every_experiment_has_every_profile_and_adds_up(suite: str) -> None:
    profiles = load(suite).PROFILES
    assert set(profiles) >= {"smoke", "tiny", "small", "paper"}
    for name in ("tiny", "small"):
        assert len(profiles[name].cases(UNREAD)) == len(
            set(map(repr, profiles[name].cases(UNREAD)))
        )


@pytest.mark.parametrize("name", isoflop.PROFILES)
def test_every_planned_point_meets_its_budget(name: str) -> None:
    chosen = isoflop.PROFILES[name]
    points = plan(chosen, chosen.vocabulary, Rates())
    assert len(points) == len(chosen.budgets_flops) * len(chosen.backbones) * len(chosen.arms)
    for point in points:
        assert abs(point.training_flops / point.case.budget_flops - 1) <= 0.02
        tokens = point.case.batch_sequences * point.case.backbone.context
        assert point.tokens == point.steps * tokens


def test_the_papers_layers_are_planned_at_the_papers_budgets() -> None:
    chosen = isoflop.PROFILES["paper"]
    assert chosen.budgets_flops == (6e18, 2e19)
    options = {case.layer: case.options for case in chosen.cases(UNREAD)}
    assert (options["peer"]["experts"], options["peer"]["heads"], options["peer"]["topk"]) == (
        1024**2,
        8,
        16,
    )
    assert (options["pkm"]["memories"], options["pkm"]["topk"]) == (1024**2, 32)
    assert options["expert_choice"]["experts"] == 128
    assert {c.batch_sequences * c.backbone.context for c in chosen.cases(UNREAD)} == {128 * 2048}


def test_the_speed_of_the_nearest_recorded_run_stands_in() -> None:
    fast = training("dense", 0, 1.0, speed=1e6, training_flops=1e9, tokens=1000, tokens_per_s=1e6)
    fast = fast.model_copy(update={"case": fast.case | {"device": "cpu"}})
    file = ResultFile(
        suite="methods",
        profile="tiny",
        code={"commit": None, "dirty": True, "sha256": "0" * 64},
        environment=environment(),
        records=[fast],
    )
    dense, peer = plan(
        profile(backbones=profile().backbones[:1], budgets_flops=(1e9,)), 256, Rates([file])
    )
    assert dense.rate.flops_per_s == pytest.approx(1e6 * 1e9 / 1000)
    assert dense.rate.source == "recorded runs on another machine"
    assert "an assumed" in peer.rate.source


def test_a_plan_reads_no_corpus_and_starts_nothing(suites, tmp_path: Path) -> None:
    here = {"PEER_SUITE_CACHE": str(tmp_path / "cache")}
    words = ("run", "isoflop", "--profile", "paper", "--seeds", "1", "--plan")
    done = suites(*words, "--results", tmp_path, environment=here)
    assert done.returncode == 0, done.stderr
    assert "50 runs on cuda" in done.stdout
    assert "vocabulary 32,000, assumed by the profile" in done.stdout
    assert "time from an assumed" in done.stdout
    assert os.listdir(tmp_path) == []


def test_a_large_profile_needs_data(suites, tmp_path: Path) -> None:
    done = suites("run", "isoflop", "--profile", "small", "--results", tmp_path)
    assert done.returncode == 2
    assert "give --data and --tokenizer, or --plan" in done.stderr


def test_a_run_of_one_suite_is_found_by_another(tmp_path: Path) -> None:
    """`methods` and `isoflop` hold the same numbers at profile paper, where they share a backbone."""
    runs = Runs(Store(tmp_path))
    ours = {repr(case): case for case in isoflop.PROFILES["paper"].cases(UNREAD)}
    for case in methods.PROFILES["paper"].cases(UNREAD):
        assert repr(case) in ours
        assert not runs.finished(case)
        runs.checkpoint(case).parent.mkdir(parents=True, exist_ok=True)
        runs.checkpoint(case).write_bytes(b"left off here")
        here = socket.gethostname()
        half, elsewhere, living = (
            runs.checkpoint(case).with_name(f".{runs.checkpoint(case).name}.{host}.{pid}")
            for host, pid in ((here, 2**31 - 1), ("a.node", os.getpid()), (here, os.getpid()))
        )
        half.write_bytes(b"killed while")
        elsewhere.write_bytes(b"killed while")
        living.write_bytes(b"another sweep writes")
        runs.keep(case, Record(case=dump(case), status="diverged", reason="nan"))
        assert not half.exists()
        assert not elsewhere.exists()
        assert living.exists()
        living.unlink()
        runs.keep(case, Record(case=dump(case), status="error", reason="another sweep's end"))
        assert read(runs.path(case)).records[0].status == "diverged"
        assert runs.finished(ours[repr(case)])
        assert not runs.checkpoint(case).exists()
    assert len(list(tmp_path.glob("scratch/runs/*/*.json"))) == 15
    file = runs.results("isoflop", "paper", list(ours.values()))
    assert (file.suite, file.profile, len(file.records)) == ("isoflop", "paper", 15)
    with pytest.raises(UserError, match="no record of isoflop, profile tiny"):
        runs.results("isoflop", "tiny", isoflop.PROFILES["tiny"].cases(UNREAD))


def test_the_cases_of_a_complete_run_follow_from_its_records() -> None:
    profiles = {"tiny": profile()}
    sets = (Evaluation(name="c4", source="c4.jsonl", sha256="0" * 64),)

    def file(cases: list[TrainingCase]) -> ResultFile:
        records = [Record(case=dump(case), status="diverged", reason="nan") for case in cases]
        code = {"commit": None, "dirty": True, "sha256": "0" * 64}
        return ResultFile(
            suite="isoflop", profile="tiny", code=code, environment=environment(), records=records
        )

    whole = profile().cases(UNREAD, sets)
    ids = [record.case_id for record in file(whole).records]
    assert planned(profiles, "tiny", [file(whole[:3])]) == ids
    assert planned(profiles, "tiny", [file(profile().cases(UNREAD))]) != ids
    with pytest.raises(UserError, match="made on 2 texts"):
        planned(profiles, "tiny", [file([whole[0], profile().cases(UNREAD)[1]])])
    with pytest.raises(UserError, match="no profile 'huge'"):
        planned(profiles, "huge", [])


def test_an_unfinished_run_keeps_its_checkpoint(tmp_path: Path) -> None:
    runs = Runs(Store(tmp_path))
    case = profile().cases(UNREAD)[0]
    runs.checkpoint(case).parent.mkdir(parents=True)
    runs.checkpoint(case).write_bytes(b"left off here")
    runs.keep(case, Record(case=dump(case), status="oom", reason="killed"))
    assert not runs.finished(case)
    assert runs.checkpoint(case).exists()
