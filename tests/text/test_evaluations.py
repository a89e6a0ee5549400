"""The paper's five texts: what becomes of each, its identity, and what a model is asked of it."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from suites.errors import UserError
from suites.language_model.case import Backbone, Optimization, TrainingCase
from suites.language_model.decoder import Decoder
from suites.language_model.evaluate import evaluate, evaluate_set, last_words, validation_batches
from suites.text.case import Text
from suites.text.corpus import Corpus, prepare
from suites.text.evaluations import SETS, Gap, Prepared, load, prepare_set
from suites.text.files import HUB
from suites.text.sources import source
from suites.text.tokenizer import Bytes, SentencePiece

BACKBONE = Backbone(blocks=1, dim=8, attention_heads=2, context=16)
PASSAGES = ["the expert retrieves a key", "one million networks retrieve the expert"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEER_SUITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def jsonl(name: str, rows: list[dict]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def lambada() -> str:
    path = Path(jsonl("lambada.jsonl", [{"text": text} for text in PASSAGES]))
    return f"lambada={path}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"


def text_of(prepared: Prepared) -> list[str]:
    return bytes(prepared.token_ids().tolist()).decode().split("\0")[:-1]


def case(**changes) -> TrainingCase:
    fields = {
        "layer": "dense",
        "options": {},
        "sites": (0,),
        "backbone": BACKBONE,
        "optimization": Optimization(learning_rate=1e-3, table_rate=1e-3),
        "budget_flops": 1e9,
        "batch_sequences": 3,
        "evaluation_tokens": 64,
        "text": Text(source="none", tokenizer="bytes", tokenizer_sha256=None, sha256="0"),
        "seed": 0,
        "device": "cpu",
        "threads": 1,
    }
    return TrainingCase(**fields | changes)


def test_wikitext_is_cut_at_its_articles_and_loses_blank_lines() -> None:
    lines = [
        " ",
        " = One = ",
        " ",
        " It has @-@ marks . ",
        " = = Part = = ",
        " More . ",
        "",
        " = Two = ",
    ]
    Path("wiki.raw").write_text("\n".join([*lines, " End . ", ""]))
    prepared = prepare_set("wikitext=wiki.raw", Bytes(), 10_000)
    articles = ["= One =\nIt has @-@ marks .\n= = Part = =\nMore .", "= Two =\nEnd ."]
    assert text_of(prepared) == articles
    assert prepared.utf8_bytes == sum(len(article) for article in articles)
    jsonl("wiki.jsonl", [{"text": line} for line in [*lines, " End . "]])
    from_rows = prepare_set("wikitext=wiki.jsonl", Bytes(), 10_000)
    assert from_rows.sha256 == prepared.sha256


def test_curation_is_title_and_summary_and_others_are_their_text() -> None:
    jsonl("c.jsonl", [{"title": "A title", "summary": "It is so.", "url": "none"}])
    assert text_of(prepare_set("curation=c.jsonl", Bytes(), 99)) == ["A title\nIt is so."]
    jsonl("t.jsonl", [{"text": "some text"}, {"text": ""}, {"text": "and more"}])
    for name in ("pile", "c4"):
        assert text_of(prepare_set(f"{name}=t.jsonl", Bytes(), 99)) == ["some text", "and more"]


def test_whole_documents_are_taken_until_there_are_enough_tokens() -> None:
    jsonl("t.jsonl", [{"text": f"document {i}"} for i in range(600)])
    prepared = prepare_set("c4=t.jsonl", Bytes(), 25)
    assert text_of(prepared) == ["document 0", "document 1", "document 2"]
    assert prepared.ends().tolist() == [11, 22, 33]
    assert prepare_set("c4=t.jsonl", Bytes(), 10**6).documents == 600


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("books", UserError, "unknown evaluation set 'books'; there are curation, lambada"),
        ("c4=none.jsonl", UserError, "no such file: none.jsonl"),
        ("c4=t.jsonl#sha256=00", UserError, "has sha256 .*, stated is 00"),
        ("lambada=t.jsonl", UserError, "that of the pinned lambada is 4aa8d02c.*=t.jsonl#sha256="),
        ("curation=t.jsonl", UserError, "t.jsonl has no column .title., .summary.; it has text"),
        ("curation", Gap, "no revision of curation is pinned; give its file"),
        ("wikitext=empty.raw", UserError, "empty.raw holds no text to evaluate wikitext on"),
    ],
)
def test_bad_sets(given: str, error: type[Exception], message: str) -> None:
    jsonl("t.jsonl", [{"text": "some text"}])
    Path("empty.raw").write_text("\n")
    with pytest.raises(error, match=message):
        prepare_set(given, Bytes(), 99)


def test_hub_files_are_pinned() -> None:
    assert set(SETS) == {"curation", "lambada", "pile", "wikitext", "c4"}
    assert all(HUB.fullmatch(s.location) for s in SETS.values() if s.location)


@pytest.mark.parametrize("field", ["source", "name", "utf8_bytes", "documents", "vocabulary"])
def test_an_edited_set_is_refused(field: str) -> None:
    prepared = prepare_set(lambada(), Bytes(), 99)
    path = prepared.folder / "set.json"
    stated = json.loads(path.read_text())
    stated[field] = 7 if isinstance(stated[field], int) else "another"
    path.write_text(json.dumps(stated))
    with pytest.raises(UserError, match="is damaged: .*; delete that folder"):
        load(prepared.folder)


def test_damage_is_found() -> None:
    prepared = prepare_set(lambada(), Bytes(), 99)
    (prepared.folder / "answers.bin").write_bytes(b"")
    with pytest.raises(UserError, match="is damaged: .*; delete that folder"):
        load(prepared.folder)


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_the_last_word_is_what_the_passage_adds(kind: str, pieces: Path) -> None:
    tokenizer = Bytes() if kind == "bytes" else SentencePiece(pieces)
    prepared = prepare_set(lambada(), tokenizer, 10_000)
    answers, ends = prepared.answers(), prepared.ends()
    assert answers is not None
    for end, words, passage in zip(ends, answers, PASSAGES, strict=True):
        ids = prepared.token_ids()[end - 1 - words : end - 1]
        word = passage.rsplit(" ")[-1]
        if isinstance(tokenizer, SentencePiece):
            assert tokenizer.processor.decode(ids.tolist()) == word
        else:
            assert bytes(ids.tolist()).decode() == f" {word}"


CHINESE = "今天天气很好，我们一起去公园散步。" * 5


@pytest.mark.parametrize("name", ["c4", "pile", "wikitext"])
@pytest.mark.parametrize("text", [CHINESE, "word", "a\u00a0b", "\u200bword"])
def test_a_document_needs_no_space(name: str, text: str) -> None:
    jsonl("t.jsonl", [{"text": "one two"}, {"text": text}])
    kept = "".join(text_of(prepare_set(f"{name}=t.jsonl", Bytes(), 10**6)))
    assert text in kept


HOLES = {"null": None, "missing": ...}


@pytest.mark.parametrize("hole", HOLES)
@pytest.mark.parametrize(
    ("name", "column", "whole"),
    [
        ("c4", "text", {"text": "some words"}),
        ("wikitext", "text", {"text": "some words"}),
        ("lambada", "text", {"text": "some words"}),
        ("curation", "summary", {"title": "some", "summary": "words"}),
        ("curation", "title", {"title": "some", "summary": "words"}),
    ],
)
def test_a_row_that_lacks_a_column_is_left_out_and_counted(
    name: str, column: str, whole: dict, hole: str
) -> None:
    broken = {k: v for k, v in (whole | {column: HOLES[hole]}).items() if v is not ...}
    path = jsonl("t.jsonl", [broken, whole, broken])
    stated = f"#sha256={hashlib.sha256(Path(path).read_bytes()).hexdigest()}"
    prepared = prepare_set(f"{name}={path}{stated}", Bytes(), 99)
    assert [text.split() for text in text_of(prepared)] == [["some", "words"]]
    assert prepared.left_out == 2
    assert prepared.notes() == [f"2 rows of {name} hold nothing for it and are left out"]


@pytest.mark.parametrize(
    "end", ["", "\n", " ", " \r\n\t", "\u3000", " \u200b", "\u00ad", " \ufeff", " \0"]
)
@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_what_prints_nothing_is_no_last_word(end: str, kind: str, pieces: Path) -> None:
    tokenizer = Bytes() if kind == "bytes" else SentencePiece(pieces)
    plain = prepare_set(lambada(), tokenizer, 10_000)
    path = Path(jsonl("l.jsonl", [{"text": text + end} for text in PASSAGES]))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    ended = prepare_set(f"lambada={path}#sha256={sha256}", tokenizer, 10_000)
    assert ended.sha256 == plain.sha256
    assert ended.left_out == 0


@pytest.mark.parametrize("text", ["word", "", " \n", "\u200b", CHINESE])
def test_a_passage_without_a_last_word_to_ask_for_is_left_out(text: str) -> None:
    path = Path(jsonl("l.jsonl", [{"text": text}, *({"text": text} for text in PASSAGES)]))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    prepared = prepare_set(f"lambada={path}#sha256={sha256}", Bytes(), 10_000)
    assert text_of(prepared) == PASSAGES
    assert prepared.answers().tolist() == [4, 7]


class Erasing(Bytes):
    """A tokenizer that knows no z."""

    name = "erasing"

    def encode(self, documents: list[str]) -> list[np.ndarray]:
        return super().encode([document.replace(" zzz", "") for document in documents])


def test_a_last_word_without_a_token_is_left_out_and_counted() -> None:
    texts = [*PASSAGES, "the expert retrieves a zzz"]
    path = Path(jsonl("l.jsonl", [{"text": text} for text in texts]))
    given = f"lambada={path}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"
    prepared = prepare_set(given, Erasing(), 10_000)
    assert (text_of(prepared), prepared.left_out) == (PASSAGES, 1)
    jsonl("l.jsonl", [{"text": texts[-1]}])
    given = f"lambada={path}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"
    with pytest.raises(UserError, match="1 documents have no last word to ask for"):
        prepare_set(given, Erasing(), 10_000)


def test_every_token_is_predicted_once() -> None:
    """Against one forward pass per window."""
    torch.manual_seed(1)
    prepared = prepare_set(lambada(), Bytes(), 10_000)
    model = Decoder(BACKBONE, 256, "dense", {}, (0,))
    found = evaluate_set(model, case(), prepared)
    tokens = torch.from_numpy(prepared.token_ids().astype(np.int64))
    losses = []
    for start in range(0, len(tokens) - 1, BACKBONE.context):
        window = tokens[start : start + BACKBONE.context + 1]
        logits = model(window[None, :-1])[0].log_softmax(-1)
        losses += (-logits[torch.arange(len(window) - 1), window[1:]]).tolist()
    assert len(losses) == found["lambada_tokens"] == len(tokens) - 1
    assert found["lambada_loss_nats"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["lambada_perplexity"] == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)
    utf8 = sum(len(text.encode()) for text in PASSAGES)
    assert found["lambada_bits_per_byte"] == pytest.approx(sum(losses) / math.log(2) / utf8)


@pytest.mark.parametrize("change", ["\n    ", "  ", " \t ", "\r\n"])
def test_bits_per_byte_count_what_the_tokens_stand_for(change: str, pieces: Path) -> None:
    """One stream of tokens has one number of bits per byte, whatever white space the pieces lost."""
    tokenizer = SentencePiece(pieces)
    jsonl("plain.jsonl", [{"text": " ".join(["the expert retrieves a product key"] * 20)}])
    model = Decoder(BACKBONE, tokenizer.vocabulary, "dense", {}, (0,))
    plain = prepare_set("c4=plain.jsonl", tokenizer, 10_000)
    expected = evaluate_set(model, case(), plain)
    # Every tenth space only, so that less is lost than is refused.
    words = json.loads(Path("plain.jsonl").read_text())["text"].split(" ")
    text = "".join(w + (change if i % 10 == 0 else " ") for i, w in enumerate(words)).strip()
    jsonl("spaced.jsonl", [{"text": text}])
    spaced = prepare_set("c4=spaced.jsonl", tokenizer, 10_000)
    assert np.array_equal(spaced.token_ids(), plain.token_ids())
    found = evaluate_set(model, case(), spaced)
    # A space that came back as such counts, a line break that became one does not.
    lost = plain.utf8_bytes - spaced.utf8_bytes
    assert lost == (12 if change == "\r\n" else 0)
    assert found["c4_bits_per_byte"] * spaced.utf8_bytes == pytest.approx(
        expected["c4_bits_per_byte"] * plain.utf8_bytes
    )
    assert spaced.lost_bytes == len(text) - spaced.utf8_bytes
    (note,) = spaced.notes()
    assert "own.model loses" in note
    assert f"{spaced.lost_bytes / len(text):.2%} of the bytes of c4" in note


@pytest.mark.parametrize("text", [CHINESE, "{" * 500, "the     expert     {{{{", "THE EXPERT"])
def test_a_tokenizer_that_loses_too_much_is_refused(text: str, pieces: Path) -> None:
    jsonl("t.jsonl", [{"text": text}])
    for _ in range(2):  # the second time from the cache
        with pytest.raises(UserError, match=r"own.model loses .* of the bytes of c4.* at most 10%"):
            prepare_set("c4=t.jsonl", SentencePiece(pieces), 10_000)


def test_bytes_are_counted_where_they_are_tokens() -> None:
    """A null byte, which ends a document, is in no token of its text."""
    jsonl("t.jsonl", [{"text": "naïve \0 text of some more words that go on"}])
    prepared = prepare_set("c4=t.jsonl", Bytes(), 10_000)
    assert prepared.utf8_bytes == prepared.tokens - 1
    assert prepared.lost_bytes == 1


class Knows(torch.nn.Module):
    """Predicts the successor of each token by a table, whatever came before."""

    def __init__(self, successors: dict[int, int]) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(256, 256))
        for token, successor in successors.items():
            self.table.data[token, successor] = 1

    def forward(self, tokens: torch.Tensor, with_loss: bool = False) -> torch.Tensor:
        assert not with_loss
        return self.table[tokens]


def corpus_of_two_alphabets() -> Corpus:
    """Training: many short documents of ASCII; validation: one long one, two bytes a character."""
    jsonl("train.jsonl", [{"text": f"{i}"} for i in range(200)])
    jsonl("held.jsonl", [{"text": "éüö" * 100}])
    return prepare(source(("train.jsonl",)), source(("held.jsonl",)), Bytes())


def test_bits_per_byte_are_of_the_validation_text_and_of_its_bytes() -> None:
    model = Decoder(BACKBONE, 256, "dense", {}, (0,))
    found = evaluate(model, case(batch_sequences=2), corpus_of_two_alphabets())
    nats = found["validation_loss_nats"]
    assert found["validation_bits_per_byte"] == pytest.approx(nats / math.log(2) * 601 / 600)


def test_evaluation_is_of_the_model_as_it_is_used() -> None:
    """Running statistics, whatever mode the model was in: batch norm of queries tells them apart."""
    options = {"experts": 16, "heads": 1, "topk": 2, "dim_key": 4, "query_norm": "batch"}
    model = Decoder(BACKBONE, 256, "peer", options, (0,))
    corpus = corpus_of_two_alphabets()
    asked = case(layer="peer", options=options, batch_sequences=2, evaluation_tokens=32)
    (norm,) = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        norm.running_mean.fill_(3.0)
    before = norm.running_mean.clone()
    inputs, targets = validation_batches(asked, corpus)(0)
    logits = model.eval()(inputs).flatten(0, 1).log_softmax(-1)
    loss = -logits[torch.arange(len(logits)), targets.flatten()].mean().item()
    model.train()
    found = evaluate(model, asked, corpus)
    assert found["validation_loss_nats"] == pytest.approx(loss, rel=1e-5)
    prepared = prepare_set(lambada(), Bytes(), 99)
    sets = []
    for mode in (True, False):
        model.train(mode)
        sets.append(evaluate_set(model, asked, prepared))
    assert sets[0] == sets[1]
    assert torch.equal(norm.running_mean, before)


def test_a_last_word_is_right_when_all_its_tokens_are() -> None:
    tokens = torch.tensor([1, 2, 3, 4, 0, 5, 6, 7, 0])
    ends, answers = np.array([5, 9]), np.array([2, 1])
    whole = {2: 3, 3: 4, 6: 7}
    for known, right in [(whole, 2), (whole | {3: 9}, 1), (whole | {1: 9, 5: 9}, 2), ({3: 4}, 0)]:
        assert last_words(Knows(known), case(), tokens, ends, answers) == right


def test_cases_without_sets_keep_their_digests() -> None:
    dumped = case().model_dump(mode="json")
    assert "evaluations" not in dumped
    assert "compiled" not in dumped
    prepared = prepare_set(lambada(), Bytes(), 99)
    with_set = case(evaluations=(prepared.evaluation(),), compiled=True)
    assert with_set.model_dump(mode="json")["evaluations"][0]["sha256"] == prepared.sha256
    assert TrainingCase.model_validate(with_set.model_dump(mode="json")) == with_set
