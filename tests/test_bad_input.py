"""Bad input to every verb ends in status 2 with a sentence, which says what was given and what is allowed.

All of it runs in this process, so that a line of the list costs milliseconds.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from suites.__main__ import VERBS, run
from suites.records.record import canonical, digest
from suites.records.store import Store
from tests.lab import Lab, environment, result_file

LONG = "x" * 300  # a name that no file system takes


def sealed(body: dict) -> str:
    """A record's text with the checksum that fits, as no writer of ours would let it pass."""
    return canonical(body | {"sha256": digest(body)})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of one commit with a record, and files that are wrong in one way each."""
    root = tmp_path_factory.mktemp("place")
    lab = Lab(root)
    commit = lab.commit()
    lab.measure(commit)
    (root / "short.txt").write_text("\n\n".join(f"paragraph {i}" for i in range(200)))
    (root / "empty.txt").write_text("")
    (root / "file").write_text("")
    (root / "none").mkdir()

    good = result_file(commit).model_dump(mode="json")
    text = sealed(good)
    unfit = json.loads(text)
    unfit["records"][0]["metrics"]["validation_loss_nats"] = "low"
    del unfit["sha256"]
    dirty = json.loads(text)
    dirty["code"]["dirty"] = True
    del dirty["sha256"]
    records = {
        "nan": re.sub(r'("tokens_per_s": )[\d.]+', r"\1NaN", text, count=1),
        "infinite": re.sub(r'("tokens_per_s": )[\d.]+', r"\1Infinity", text, count=1),
        "deep": "[" * 100_000,
        "surrogate": text.replace('"dense"', r'"\ud800"', 1),
        "string": sealed(unfit),
        "dirty": sealed(dirty),
        "list": "[]",
        "cut": text[:-20],
        "edited": text.replace('"suite": "methods"', '"suite": "isoflop"'),
        "future": sealed(good | {"schema_version": 99}),
        "foreign": sealed(good | {"suite": "nosuch"}),
        "unplanned": sealed(good | {"profile": "huge"}),
    }
    for name, body in records.items():
        (root / name).mkdir()
        (root / name / "record.json").write_text(body)
    (root / "bytes").mkdir()
    (root / "bytes" / "record.json").write_bytes(b"\xff\xfe")
    (root / "good.json").write_text(text)
    return root


# command line → part of what is said
BAD = {
    # the front
    "nosuch": "No such command 'nosuch'",
    "--nosuch": "No such option '--nosuch'",
    "list extra": "unexpected extra argument",
    # run: names
    "run nosuch": "unknown suite 'nosuch'; there are methods, isoflop",
    "run layer_sped": "did you mean layer_speed?",
    "run methods extra": "unexpected extra argument",
    "run methods --nosuch": "No such option '--nosuch'",
    "run methods --profile huge": "methods has no profile 'huge'; it has smoke, tiny",
    "run methods --profile": "requires an argument",
    "run methods --layer mamba": "unknown layer 'mamba'; registered are dense",
    "run flops --profile huge": "flops has no profile 'huge'; it has tiny",
    "run layer_speed --profile huge": "layer_speed has no profile 'huge'; it has tiny, small",
    "run speed --profile huge": "speed has no profile 'huge'; it has tiny, small",
    # run: numbers
    "run methods --budget -1": "-1.0 is not in the range x>0",
    "run methods --budget 0": "0.0 is not in the range x>0",
    "run methods --budget nan": "nan is not a finite number",
    "run methods --budget nan --plan": "nan is not a finite number",
    "run methods --budget inf": "inf is not a finite number",
    "run methods --budget inf --plan": "inf is not a finite number",
    "run methods --budget 1e999": "1e999 is not a finite number",
    "run methods --budget -inf": "is not in the range x>0",
    "run methods --budget much": "'much' is not a valid float",
    "run methods --profile smoke --budget 1e3": "does not buy one batch",
    "run methods --profile smoke --budget 1.1e8 --layer dense": "not comparable: ",
    "run methods --seeds 0": "0 is not in the range 1<=x<=1000",
    "run methods --seeds 1000000000": "is not in the range 1<=x<=1000",
    "run methods --seeds 1.5": "'1.5' is not a valid integer",
    "run methods --jobs 0": "0 is not in the range x>=1",
    "run methods --jobs few": "'few' is not a valid integer",
    "run methods --checkpoint-interval -1": "-1.0 is not in the range x>=0",
    "run methods --checkpoint-interval nan": "nan is not a finite number",
    "run methods --checkpoint-interval inf": "inf is not a finite number",
    # run: files
    "run methods --data none.parquet": "no such file: none.parquet",
    "run methods --profile smoke --data short.txt": "the text is too short: a batch needs 8",
    "run methods --profile smoke --data empty.txt": "holds no text",
    "run methods --held-out short.txt": "--held-out goes with --data",
    "run methods --tokenizer short.txt": "is not a SentencePiece model",
    "run methods --tokenizer gone.model --plan": "gone.model",
    "run methods --evaluation wikitext=a --evaluation wikitext=b": "is given once",
    "run methods --profile small": "give --data and --tokenizer",
    "run methods --profile smoke --layer dense --seeds 1 --results file": "Not a directory",
    f"run methods --profile smoke --layer dense --seeds 1 --results {LONG}": "File name too long",
    # paper
    "paper --profile huge": "isoflop has no profile 'huge'; it has smoke, tiny",
    "paper --only nosuch": "'nosuch' is not one of 'isoflop'",
    "paper --jobs 0": "0 is not in the range x>=1",
    # claims
    "claims --profile huge": "no records of profile huge under",
    "claims --results gone": "gone/records that a claim rests on",
    "claims --scratch --results gone": "gone/scratch that a claim rests on",
    # trace
    "trace": "Missing argument 'SUITE'",
    # train, plan
    "train flops --layer peer": "flops trains nothing",
    "train methods --profile smoke --layer mamba": "unknown layer 'mamba'; registered are dense",
    "train methods --profile smoke": "Missing option '--layer'",
    "train methods --profile huge --layer peer": "methods has no profile 'huge'; it has smoke, tiny",
    "plan --gpus 0": "--gpus takes 1..1024 for the powers of two between, or 1,6,8; got '0'",
    "plan --layer mamba": "unknown layer 'mamba'",
    "plan --layer dense --heads 3": "dense has no option heads",
    "plan --experts 1000": "experts must be a perfect square, got 1000",
    "plan --dim 63": "no such model: dim must be a multiple of",
    "plan --gb-per-s nan": "nan is not",
    "trace nosuch": "unknown suite 'nosuch'",
    "trace flops": "flops trains nothing; those that do are methods",
    "trace layer_speed": "layer_speed trains nothing; those that do are methods",
    "trace methods --profile huge": "methods has no profile 'huge'; it has smoke, tiny",
    "trace methods --layer mamba": "unknown layer 'mamba'",
    "trace methods --steps 3": "3 is not in the range x>=4",
    "trace methods --profile smoke --output file": "file: File exists",
    # tune and gpu
    "tune": "torch sees none; --rehearse goes through it on a CPU",
    "tune --minutes -1": "-1.0 is not in the range x>=0",
    "tune --minutes soon": "'soon' is not a valid float",
    "gpu": "torch sees no GPU; --rehearse goes through the stages on a CPU",
    "gpu --minutes 0.1": "0.1 is not in the range x>=0.5",
    # report
    "report extra": "unexpected extra argument",
    "report --results gone": "gone",
    # match
    "match": "Missing option '--dim'",
    "match --dim 64": "Missing option '--budget'",
    "match --dim 0 --budget parameters": "0 is not in the range 1<=x<=131072",
    "match --dim 1000000000000 --budget parameters": "is not in the range 1<=x<=131072",
    "match --dim wide --budget parameters": "'wide' is not a valid integer",
    "match --dim 64 --budget weight": "unknown budget kind 'weight'; there are training_flops",
    "match --dim 64 --budget parameters --tolerance nan": "nan is not a finite number",
    "match --dim 64 --budget parameters --tolerance inf": "inf is not a finite number",
    "match --dim 64 --budget parameters --tolerance -0.1": "-0.1 is not in the range x>=0",
    "match --dim 64 --budget parameters --tokens 0": "0 is not in the range 1<=x<=2147483648",
    "match --dim 64 --budget parameters --layer mamba": "unknown layer 'mamba'",
    # tables and figures
    "tables --results gone": "gone/records; make some with",
    "tables --check extra": "unexpected extra argument",
    "tables --results lacking": "a record of methods, profile tiny, has no optimization",
    "tables --check --results lacking": "delete it and run again",
    "tables --results misplaced": "holds what belongs in",
    f"tables --results {LONG}": "File name too long",
    "figures --results gone": "gone/records; make some with",
    "export --results gone": "gone/records; make some with",
    "export --to file --results results": "cannot write",
    "figures --results unwritable": "costs.svg: Not a directory; nothing was changed",
    # publish
    "publish": "Missing argument 'RUN'",
    "publish none": "none holds no records",
    "publish foreign": "unknown suite 'nosuch'",
    "publish unplanned": "no profile 'huge'",
    "publish string": "metric 'validation_loss_nats' must be a number; got 'low'",
    # compare: sides
    "compare": "Missing argument 'BASE'",
    "compare HEAD": "Missing argument 'HEAD'",
    "compare HEAD paper": "the paper is a BASE",
    "compare gone HEAD --results results": "unknown commit 'gone'",
    "compare HEAD HEAD --suite nosuch --results results": "has no records of suite 'nosuch'",
    "compare HEAD HEAD --format yaml": "'yaml' is not one of 'table'",
    "compare HEAD HEAD --results none": "has no records at or before it",
    "compare paper good.json --suite flops": "has no records of suite 'flops'",
    "compare gone.json good.json": "cannot read result file gone.json: No such file",
    # compare: records
    "compare nan/record.json good.json": "NaN is no number of JSON",
    "compare infinite/record.json good.json": "Infinity is no number of JSON",
    "compare deep/record.json good.json": "is not a whole JSON file",
    "compare surrogate/record.json good.json": "is not a whole JSON file",
    "compare string/record.json good.json": "must be a number; got 'low'",
    "compare dirty/record.json good.json": "was measured on a dirty tree",
    "compare list/record.json good.json": "holds a list and not a result file",
    "compare cut/record.json good.json": "is not a whole JSON file",
    "compare edited/record.json good.json": "does not match its checksum",
    "compare future/record.json good.json": "has schema version 99; this suite reads 1",
    "compare bytes/record.json good.json": "is not UTF-8 text",
    "compare good.json nan/record.json": "NaN is no number of JSON",
    # history
    "history": "Missing option '--suite'",
    "history --suite methods": "Missing option '--case'",
    "history --suite nosuch --case peer --results results": "has records of suite 'nosuch'",
    "history --suite methods --case x --results results": "give one of:\n  dense\n  peer",
    "history --suite methods --case peer --metric z_s --results results": "has no number 'z_s'",
    "history --suite methods --case peer --head gone --results results": "unknown commit 'gone'",
    # regress and selftest
    "regress": "Missing argument 'BASE'",
    "regress gone HEAD": "unknown commit 'gone'",
    "regress HEAD gone": "unknown commit 'gone'",
    "regress HEAD HEAD --device tpu": "'tpu' is not one of 'cpu', 'cuda'",
    "regress HEAD HEAD --device cuda": "torch sees no GPU; --device cpu measures here",
    "regress HEAD HEAD --seed x": "'x' is not a valid integer",
    "selftest --gates 0": "0 is not in the range x>=1",
    "selftest --gates many": "'many' is not a valid integer",
}


@pytest.fixture
def called(place: Path, cache: Path, monkeypatch, capsys) -> Callable[[str], tuple[int, str]]:
    """Status and standard error of a command line in `place`."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("PEER_SUITE_CACHE", str(cache))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    def call(line: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["suites", *line.split()])
        return run(), capsys.readouterr().err

    return call


@pytest.fixture(scope="module", autouse=True)
def results(place: Path) -> None:
    """Result folders with one fault each."""
    good = result_file("a" * 40, environment=environment())
    own = Store(place / "lacking").published_path(good)
    misplaced = Store(place / "misplaced").published_path(good).with_name("other.json")
    for file in (own, misplaced):
        file.parent.mkdir(parents=True)
        file.write_text(sealed(good.model_dump(mode="json")))
    (place / "unwritable").mkdir()
    (place / "unwritable" / "figures").write_text("a file")
    shown = next((Path(__file__).parents[1] / "results" / "records").glob("flops-tiny/*.json"))
    copy = place / "unwritable" / "records" / "flops-tiny" / shown.name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(shown.read_bytes())


@pytest.mark.parametrize("line", BAD, ids=lambda line: line.replace(LONG, "LONG"))
def test_bad_input_is_a_sentence(called, line: str) -> None:
    status, said = called(line)
    assert BAD[line] in said
    assert status == 2
    assert "Traceback" not in said
    assert max(map(len, said.splitlines())) < 1000


def test_every_verb_is_in_the_list() -> None:
    assert len(BAD) >= 60
    assert {line.split()[0] for line in BAD} >= set(VERBS)
