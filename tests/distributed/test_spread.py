"""Several processes against one: outputs, gradients, steps, losses and what is sent."""

import pytest
import torch

from suites.distributed.costs import SPREAD, choose, step_bytes
from suites.distributed.ranks import Ranks
from suites.language_model.train import decoder, train
from suites.layers import LAYERS
from suites.measure.meta import on_meta
from tests.distributed.processes import (
    IMPLS,
    KINDS,
    RUNS,
    STEPPERS,
    STOPPED_AFTER,
    gone_on,
    layer,
    run,
    steps,
    tokens_and_weights,
)

RANKS = (2, 4)
# They choose tokens, or take a loss, of one call in one process: the parts of a batch in parts.
OF_A_PART = ("expert_choice", "topk_moe")
# Of losses. Sums in another order round otherwise; an expert that chooses among tokens of near equal
# scores then chooses others.
BOUNDS = dict.fromkeys(LAYERS, 1e-5) | {"expert_choice": 5e-3}
every = pytest.mark.parametrize("ranks", RANKS)
runs = pytest.mark.parametrize(
    ("name", "sharding", "micro"), RUNS, ids=lambda value: str(value).lower()
)


@every
@pytest.mark.parametrize("sharding", ["columns", "rows"])
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_call_is_that_of_one_process(found, kind: str, impl: str, sharding: str, ranks: int):
    """In float64, batch statistics and all gradients too."""
    one = layer(kind, impl)
    x, weights = tokens_and_weights()
    x.requires_grad_()
    y = one(x)
    (y * weights).sum().backward()
    wanted = {"y": y.detach(), "x": x.grad}
    wanted |= {name: parameter.grad for name, parameter in one.named_parameters()}
    wanted |= dict(one.named_buffers())
    given = found[ranks]["gradients"][f"{kind} {impl} {sharding}"]
    torch.testing.assert_close(given, wanted, rtol=1e-11, atol=1e-12)


@every
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", STEPPERS)
def test_steps_inside_backward_are_those_of_one_process(found, name, kind, impl, ranks):
    optimizer, shardings = STEPPERS[name]
    wanted = steps(layer(kind, impl), optimizer, slice(None))
    for sharding in shardings:
        given = found[ranks]["stepped"][f"{name} {kind} {impl} {sharding}"]
        torch.testing.assert_close(given, wanted, rtol=1e-7, atol=1e-9)


@pytest.fixture(scope="session")
def alone(corpus):
    """The run of one process with the same semantics, each once."""
    made: dict[tuple[str, int | None], tuple[dict, dict]] = {}

    def record(name: str, micro: int | None) -> tuple[dict, dict]:
        if (name, micro) not in made:
            done = train(run(corpus, name, micro), corpus, lambda *_: None)
            made[name, micro] = done.series, dict(done.metrics)
        return made[name, micro]

    return record


@every
@runs
def test_a_curve_is_that_of_one_process(found, alone, name, sharding, micro, ranks):
    series, metrics = alone(name, (micro or 8) // ranks if name in OF_A_PART else micro)
    given = found[ranks]["curves"][f"{name} {sharding} {micro}"]
    assert given["series"].keys() == series.keys()
    losses = given["series"]["train_loss_nats"]
    assert losses == pytest.approx(series["train_loss_nats"], rel=BOUNDS[name])
    assert len(losses) >= 10
    assert losses[-1] < losses[0]
    loss = given["metrics"]["validation_loss_nats"]
    assert loss == pytest.approx(metrics["validation_loss_nats"], rel=BOUNDS[name])
    assert given["metrics"]["parameters"] == metrics["parameters"]
    assert given["metrics"].keys() == metrics.keys()


@every
def test_a_record_says_over_how_many_it_was_spread(found, corpus, ranks):
    given = found[ranks]["curves"]["peer columns None"]["case"]
    assert (given["ranks"], given["sharding"]) == (ranks, "columns")
    single = run(corpus, "peer", None).model_dump(mode="json")
    assert not {"ranks", "sharding"} & single.keys()


@every
@runs
def test_what_is_sent_is_the_closed_form(found, corpus, name, sharding, micro, ranks):
    """To the byte: of tables, of FSDP2, of batch statistics, of what follows a step."""
    model = on_meta(decoder, run(corpus, name, micro), corpus)
    calls = 8 // (micro or 8)
    wanted = step_bytes(model, sharding, ranks, 8 // calls // ranks, calls)
    assert found[ranks]["sent"][f"{name} {sharding} {micro}"] == sum(wanted.values())
    assert (wanted["tables"] > 0) == (LAYERS[name] in SPREAD)


@every
@pytest.mark.parametrize("name", ["peer", "pkm", "memory_plus", "sparsely_gated_linear"])
def test_what_is_chosen_sent_less(found, corpus, name, ranks):
    model = on_meta(decoder, run(corpus, name, None), corpus)
    sent = {s: found[ranks]["sent"][f"{name} {s} None"] for s in ("columns", "rows")}
    assert choose(model, ranks, 8 // ranks) == min(sent, key=lambda s: sent[s])


@every
def test_a_checkpoint_of_four_goes_on_in_any_number(found, alone, ranks):
    """By columns in four, by rows in two: a checkpoint does not know."""
    losses = alone("peer", None)[0]["train_loss_nats"]
    given = found[ranks]["resumed"]
    assert given["first"] == STOPPED_AFTER + 1
    assert given["series"]["train_loss_nats"] == pytest.approx(losses, rel=1e-5)


def test_a_checkpoint_of_four_goes_on_in_one(found, alone, corpus, folder):
    given = gone_on(run(corpus, "peer", None), corpus, folder / "left", Ranks(None))
    losses = alone("peer", None)[0]["train_loss_nats"]
    assert given["first"] == STOPPED_AFTER + 1
    assert given["series"]["train_loss_nats"] == pytest.approx(losses, rel=1e-5)


def test_a_run_that_went_on_has_the_bits_of_one_that_never_stopped(found):
    never, stopped = found[4]["curves"]["peer columns None"], found[4]["resumed"]
    assert stopped["series"] == never["series"]
    for name in ("validation_loss_nats", "unevenness_nats"):
        assert stopped["metrics"][name] == never["metrics"][name]
