"""The successors: matched budgets and parameters, claims that find their arms, laws within their range."""

import math

import pytest

from suites.beyond import successors, tuning_successors
from suites.beyond.claims import CLAIMS, arm
from suites.errors import UserError
from suites.language_model.decoder import Decoder
from suites.measure.meta import on_meta
from suites.records.record import Code, Environment, Record, ResultFile
from suites.sweep.plan import UNREAD, Rates, plan
from suites.tables.successors import laws, sheets

ENVIRONMENT = Environment(
    platform="p", cpu="c", cores=2, memory_bytes=1, gpu=None, python="3.11", packages={}
)
CODE = Code(commit="a" * 40, dirty=False, sha256="b" * 64)


@pytest.mark.parametrize("name", successors.PROFILES)
def test_parameters_and_budgets_match(name: str) -> None:
    chosen = successors.PROFILES[name]
    parameters = {}
    for number, point in enumerate(plan(chosen, chosen.vocabulary, Rates())):
        case = point.case
        assert abs(point.training_flops / case.budget_flops - 1) <= 0.02
        model = on_meta(
            Decoder, case.backbone, chosen.vocabulary, case.layer, case.options, case.sites
        )
        parameters[case.layer, number] = model.parameters_total()
        assert sum(model.parameter_parts().values()) == model.parameters_total()
    (peer,) = (count for (layer, _), count in parameters.items() if layer == "peer")
    for (layer, _), count in parameters.items():
        if layer != "dense":
            assert count == pytest.approx(peer, rel=0.02), layer


def test_every_method_has_an_arm_and_every_switch_one_of_its_own() -> None:
    arms = successors.PROFILES["tiny"].arms
    assert len({one.layer for one in arms}) == 9
    own = [one for one in arms if one.layer == "sparsely_gated_linear"]
    changed = [set(one.options.items()) - set(own[0].options.items()) for one in own[1:]]
    assert [len(options - {("experts", 127**2)}) for options in changed] == [1, 1, 1, 1]


def test_tuning_gives_each_successor_the_trials_of_the_others() -> None:
    trials = tuning_successors.PROFILES["tiny"].arms
    assert {layer: sum(t.layer == layer for t in trials) for layer in successors.LENDER} == (
        dict.fromkeys(successors.LENDER, 9)
    )


def finished(loss, parameters=lambda case: 1000.0) -> ResultFile:
    """Every run of profile tiny with a loss by its case; seeds differ by more than arms."""
    records = []
    for case in successors.PROFILES["tiny"].cases(UNREAD):
        body = case.model_dump(mode="json")
        metrics = {
            "parameters": parameters(case),
            "active_parameters": 10.0,
            "training_flops": case.budget_flops,
            "tokens": 1.0,
            "tokens_per_s": 1.0,
            "evaluation_tokens": 1.0,
            "validation_loss_nats": loss(case) * (1 + 0.01 * case.seed) + case.seed / 10,
        }
        records.append(Record(case=body, status="ok", metrics=metrics))
    return ResultFile(
        suite="successors", profile="tiny", code=CODE, environment=ENVIRONMENT, records=records
    )


def test_every_claim_finds_its_two_arms() -> None:
    made = finished(lambda case: 2.0)
    for one in CLAIMS:
        judged = one.judged(made)
        assert judged.interval is not None, one.sentence
        assert judged.interval.seeds == 3
        assert abs(judged.interval.mean) < 1e-9
    assert arm(made, {"layer": "memory_plus"}) is None
    assert arm(made, {"layer": "mamba"}) is None


def test_a_switch_is_judged_against_its_own_arm() -> None:
    def loss(case) -> float:
        own = case.layer == "sparsely_gated_linear"
        return 2.3 if own and case.options["activation"] == "gelu" else 2.0

    made = finished(loss)
    verdicts = {one.sentence: one.judged(made) for one in CLAIMS}
    linear = verdicts["linear experts are better than experts with GELU"]
    assert linear.verdict == "agrees"
    assert linear.interval is not None
    assert linear.interval.mean == pytest.approx(-0.3 * 1.01)
    raw = verdicts["raw scores are better than a softmax over them"]
    assert raw.verdict == "disagrees"


def test_the_tables_refuse_parameters_that_do_not_match() -> None:
    table, beside, judged, _ = sheets([finished(lambda case: 2.0)])
    assert math.isnan(table.frame["parameter mismatch"].iloc[0])
    assert judged.name == "claims"
    assert list(beside.frame["method"]).count("peer") == 1
    assert len(beside.frame) == 9
    assert len(judged.frame) == len(CLAIMS)
    with pytest.raises(UserError, match=r"parameters .* of peer, .*; outside: "):
        sheets([finished(lambda case: 2.0, lambda case: 1100.0 if case.layer == "pkm" else 1000.0)])


def test_no_law_reaches_a_tiny_model() -> None:
    printed = laws([finished(lambda case: 2.0)])
    assert set(printed.frame["method"]) == {"topk_moe", "fine_grained_moe"}
    assert printed.frame["predicted (nats)"].isna().all()
    assert printed.frame["remark"].str.startswith("outside its range: 25% of the blocks").all()
