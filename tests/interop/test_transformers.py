"""The example of docs/transformers.md: PEER in a decoder, trained, saved, loaded, and asked."""

from pathlib import Path

import pytest
import torch

from tests.examples import run

pytest.importorskip("transformers", reason="pip install --group hub brings transformers")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the example's code leaves behind, run in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("example"))
        return run(ROOT / "docs" / "transformers.md")


def test_every_parameter_of_the_layer_is_trained(example: dict) -> None:
    layer = example["model"].model.layers[1].mlp
    assert type(layer).__name__ == "PEER"
    assert all(parameter.grad is not None for parameter in layer.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.tables())


def test_the_layer_keeps_its_own_initialisation(example: dict) -> None:
    """transformers draws linear layers with σ = 0.02 where they were not told apart."""
    weight = example["model"].model.layers[1].mlp.router.query.weight
    assert weight.std().item() == pytest.approx(32**-0.5, rel=0.1)


def test_what_is_loaded_is_what_was_saved(example: dict) -> None:
    saved, loaded, tokens = (example[name] for name in ("model", "again", "tokens"))
    saved.eval()
    loaded.eval()
    assert loaded.config.peer == saved.config.peer
    assert loaded.state_dict().keys() == saved.state_dict().keys()
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens).logits, saved(tokens).logits, rtol=0, atol=0)


def test_it_generates_as_it_reads(example: dict) -> None:
    """One token at a time from the cache, as the whole sequence would give."""
    model, tokens = example["again"].eval(), example["tokens"][:1]
    with torch.no_grad():
        grown = model.generate(tokens, max_new_tokens=3, do_sample=False)
        assert grown.shape == (1, tokens.shape[1] + 3)
        whole = model(grown).logits[0, tokens.shape[1] - 1 : -1].argmax(-1)
    assert torch.equal(grown[0, tokens.shape[1] :], whole)
