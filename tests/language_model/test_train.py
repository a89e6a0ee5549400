"""The decoder, the order of the data, the loop: what a run promises beside its loss."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from peer import PEER
from suites.errors import UserError
from suites.language_model.activity import activity
from suites.language_model.batches import Batches
from suites.language_model.case import Backbone, Optimization, TrainingCase
from suites.language_model.decoder import Decoder
from suites.language_model.train import adamw, schedule, step_count, train
from suites.layers import LAYERS, resolve_options
from suites.text.corpus import Corpus, prepare
from suites.text.sources import StandardLibrary
from suites.text.tokenizer import Bytes

BACKBONE = Backbone(blocks=2, dim=32, attention_heads=2, context=32)
SMALL = {
    "pkm": {"memories": 256, "dim_key": 16, "topk": 8},
    "peer": {"experts": 256, "dim_key": 16},
    "expert_choice": {"experts": 8},
    "topk_moe": {"experts": 8},
    "fine_grained_moe": {"experts": 16},
    "ultramem_v2": {"experts": 256, "topk": 8},
    "memory_plus": {"memories": 256, "topk": 8},
    "sparsely_gated_linear": {"experts": 64, "dim_key": 16},
}
QUERY_NORM = {"peer": {"query_norm": None}}


@pytest.fixture(scope="module")
def corpus(cache) -> Corpus:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEER_SUITE_CACHE", str(cache))
        return prepare(StandardLibrary(), None, Bytes())


def case(corpus: Corpus, layer: str = "peer", **changes) -> TrainingCase:
    given = {
        "layer": layer,
        "options": resolve_options(layer, SMALL.get(layer, {})),
        "sites": (1,),
        "backbone": BACKBONE,
        "optimization": Optimization(learning_rate=5e-3, table_rate=0.1),
        "budget_flops": 3e9,
        "batch_sequences": 8,
        "evaluation_tokens": 4096,
        "text": corpus.text(),
        "seed": 0,
        "device": "cpu",
        "threads": 1,
    }
    return TrainingCase(**given | changes)


def decoder(layer: str) -> Decoder:
    return Decoder(BACKBONE, 256, layer, resolve_options(layer, SMALL.get(layer, {})), (1,))


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_learns(layer: str, corpus: Corpus) -> None:
    record = train(case(corpus, layer), corpus, lambda *_: None)
    assert record.status == "ok"
    losses = record.series["train_loss_nats"]
    assert losses[0] > 5
    assert np.mean(losses[-5:]) < 3.7
    metrics = record.metrics
    assert metrics["training_flops"] == pytest.approx(3e9, rel=0.02)
    assert metrics["validation_perplexity"] == pytest.approx(
        math.exp(metrics["validation_loss_nats"])
    )
    assert metrics["validation_bits_per_byte"] == pytest.approx(
        metrics["validation_loss_nats"] / math.log(2), rel=1e-3
    )


def test_same_seed_same_bits(corpus: Corpus) -> None:
    runs = [train(case(corpus, seed=seed), corpus, lambda *_: None) for seed in (1, 1, 2)]
    assert runs[0].series == runs[1].series
    assert runs[0].metrics["validation_loss_nats"] == runs[1].metrics["validation_loss_nats"]
    assert runs[0].series != runs[2].series


def test_a_compiled_run_is_the_same_run(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captured as graphs and run eagerly, since code generation takes longer than this test may."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    eager, compiled = (
        train(case(corpus, "dense", compiled=on, budget_flops=1e9), corpus, lambda *_: None)
        for on in (False, True)
    )
    assert compiled.status == "ok", compiled.reason
    assert compiled.case["compiled"] is True
    assert compiled.series == eager.series


def test_a_step_moves_the_balancing_bias_once() -> None:
    model = decoder("fine_grained_moe")
    (layer,) = [layer for layer in model.layers() if hasattr(layer, "bias")]
    model(torch.randint(0, 256, (2, 32)))
    model.after_step()
    assert layer.bias.abs().max().item() == pytest.approx(layer.bias_rate)
    assert not layer.load.any()


@pytest.mark.parametrize("layer", ["dense", "peer"])
def test_a_batch_in_parts_has_the_same_gradients(layer: str, corpus: Corpus) -> None:
    """For a layer that sees each token on its own; query batch norm does not, so it is off."""
    options = resolve_options(layer, SMALL.get(layer, {}) | QUERY_NORM.get(layer, {}))
    whole, parts = (
        train(
            case(corpus, layer, options=options, micro_sequences=size, budget_flops=1e9),
            corpus,
            lambda *_: None,
        )
        for size in (None, 3)
    )
    assert "micro_sequences" not in whole.case
    assert parts.series["train_loss_nats"] == pytest.approx(
        whole.series["train_loss_nats"], rel=1e-3
    )


def test_divergence_is_a_result(corpus: Corpus) -> None:
    rates = Optimization(learning_rate=1e30, table_rate=1e30, gradient_clip=1e30)
    record = train(case(corpus, "dense", optimization=rates), corpus, lambda *_: None)
    assert record.status == "diverged"
    assert "training loss is" in (record.reason or "")
    assert np.isfinite(record.series["train_loss_nats"]).all()
    assert len(record.series["step"]) == len(record.series["train_loss_nats"])


@pytest.mark.parametrize("layer", [name for name in LAYERS if name != "expert_choice"])
def test_decoder_is_causal(layer: str) -> None:
    """In evaluation; expert choice is not, which its docstring states and another test shows."""
    model = decoder(layer).eval()
    tokens = torch.randint(0, 256, (2, 32))
    changed = tokens.clone()
    changed[:, 20:] = torch.randint(0, 256, (2, 12))
    torch.testing.assert_close(model(tokens)[:, :20], model(changed)[:, :20])
    assert not torch.allclose(model(tokens)[:, 20:], model(changed)[:, 20:])


def test_positions_matter() -> None:
    model = decoder("dense").eval()
    tokens = torch.tensor([[5, 9, 5, 5, 9]])
    logits = model(tokens)
    assert not torch.allclose(logits[0, 0], logits[0, 2])


def test_closed_form_follows_chinchilla() -> None:
    """Appendix F of arXiv 2203.15556, by hand for one sequence."""
    L, D, V, blocks, heads = 32, 32, 256, 2, 2
    attention = (
        2 * 3 * L * D * D + 2 * L * L * D + 3 * heads * L * L + 2 * L * L * D + 2 * L * D * D
    )
    ffw = 2 * L * (D * 4 * D + 4 * D * D)
    forward = 2 * L * V * D + blocks * (attention + ffw) + 2 * L * D * V
    assert sum(decoder("dense").flops(1).values()) == forward
    assert decoder("dense").training_flops(4) == 3 * 4 * forward


def test_active_parameters_of_the_dense_decoder_are_all() -> None:
    model = decoder("dense")
    assert model.active_parameters() == model.parameters_total()
    assert decoder("peer").active_parameters() < decoder("peer").parameters_total()


@pytest.mark.parametrize("layer", LAYERS)
def test_every_parameter_is_optimised_once(layer: str) -> None:
    model = decoder(layer)
    rates = Optimization(learning_rate=1e-3, table_rate=3.0)
    groups = adamw(model, rates).param_groups
    owned = [id(p) for group in groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())
    of_tables = [group for group in groups if group["lr"] != 1e-3]
    assert [id(p) for group in of_tables for p in group["params"]] == [*map(id, model.tables())]
    for group in of_tables:
        (table,) = group["params"]
        assert group["lr"] == pytest.approx(
            3.0 * table.detach().norm().item() / table.numel() ** 0.5
        )
    assert all(
        group["weight_decay"] == 0 for group in groups for p in group["params"] if p.dim() < 2
    )


def test_schedule_warms_up_and_ends_with_the_run() -> None:
    rates = Optimization(learning_rate=1)
    shares = [schedule(step, 200, rates) for step in range(200)]
    assert shares[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert max(shares) == 1.0
    assert shares[-1] == pytest.approx(0.1)
    assert shares[3:] == sorted(shares[3:], reverse=True)


def test_a_budget_below_one_batch_is_refused() -> None:
    assert step_count(1e9, 10**7) == 100
    with pytest.raises(UserError, match="does not buy one batch, which costs 1e\\+09"):
        step_count(1e6, 10**9)


def test_batches_cover_an_epoch_once_and_can_start_anywhere() -> None:
    tokens = np.arange(1001, dtype=np.uint16)
    batches = Batches(tokens, context=10, sequences=4, seed=3)
    inputs = torch.cat([batches(step)[0] for step in range(batches.per_epoch)])
    assert sorted(inputs.flatten().tolist()) == list(range(1000))
    first, target = Batches(tokens, 10, 4, 3)(30)
    assert torch.equal(batches(30)[0], first)
    assert torch.equal(target, first + 1)
    assert not torch.equal(batches(0)[0], batches(batches.per_epoch)[0])
    assert not torch.equal(batches(0)[0], Batches(tokens, 10, 4, 4)(0)[0])


@pytest.mark.parametrize("length", [0, 1, 40])
def test_short_text_is_refused(length: int) -> None:
    with pytest.raises(UserError, match="a batch needs 4 windows of 10 tokens"):
        Batches(np.zeros(length, dtype=np.uint16), 10, 4, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sites": (2,)}, r"sites must lie in 0 … 1; got \[2\]"),
        ({"dim": 30, "heads": 4}, "dim must be a multiple of 2 · attention_heads = 8"),
    ],
)
def test_bad_decoders(changes: dict, message: str) -> None:
    backbone = BACKBONE.model_copy(
        update={"dim": changes.get("dim", 32), "attention_heads": changes.get("heads", 2)}
    )
    with pytest.raises(ValueError, match=message):
        Decoder(backbone, 256, "dense", {}, changes.get("sites", (1,)))


def test_a_table_may_have_a_rate_of_its_own() -> None:
    model = decoder("peer")
    apart = Optimization(learning_rate=1e-3, table_rate=3.0, table_rates={"down": 0.5})
    rates = [
        group["lr"] * p.numel() ** 0.5 / p.detach().norm().item()
        for group in adamw(model, apart).param_groups
        for p in group["params"]
        if any(p is table for table in model.tables())
    ]
    assert rates == pytest.approx([0.5, 3.0])
    wrong = apart.model_copy(update={"table_rates": {"values": 1.0}})
    with pytest.raises(UserError, match="names values; the tables of this model are down, up"):
        adamw(model, wrong)
    assert "table_rates" not in Optimization(learning_rate=1e-3).model_dump(mode="json")


def test_activations_are_those_of_the_layer() -> None:
    model = decoder("peer").eval()
    tokens = torch.randint(256, (2, BACKBONE.context))
    (layer,) = [ffw for ffw in model.layers() if isinstance(ffw, PEER)]
    inputs = []
    hook = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0].flatten(0, 1)))
    found = activity(model, tokens)
    hook.remove()
    (x,) = inputs
    dots = torch.einsum("tpd,td->tp", layer.down[layer.selected(x).flatten(1)], x)
    assert found["preactivation_std"] == pytest.approx(dots[:256].std().item(), rel=1e-5)
    with torch.no_grad():
        layer.up.mul_(1e4)
    louder = activity(model, tokens)["output_over_residual"]
    assert louder > 100 * found["output_over_residual"]
    assert set(activity(decoder("dense").eval(), tokens)) == {"output_over_residual"}
