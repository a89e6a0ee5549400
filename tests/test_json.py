"""--json is one mechanism: every verb and suite takes it, and all that is said to a reader is in it."""

import json
import re
from pathlib import Path

import click
import pytest

from suites.__main__ import VERBS, main
from suites.output import JSON, say, with_json
from suites.registry import SUITES
from tests.lab import Lab

ROOT = Path(__file__).resolve().parents[1]


def test_every_verb_and_suite_takes_it() -> None:
    with main.make_context("suites", ["list"]) as context:
        for verb in VERBS:
            command = main.get_command(context, verb)
            assert command is not None
            assert command.params.count(JSON) == 1, verb
            if isinstance(command, click.Group):
                suites = [command.get_command(context, suite) for suite in SUITES]
                assert all(suite.params.count(JSON) == 1 for suite in suites)


def test_nothing_is_said_past_it() -> None:
    """What goes to the reader goes through `say`; notes and progress go to standard error."""
    for path in (ROOT / "suites").rglob("*.py"):
        if path.name in ("output.py", "__main__.py"):
            continue
        for call in re.findall(r"click\.echo\((?:[^()]|\([^()]*\))*\)", path.read_text()):
            assert "err=True" in call, f"{path}: {call}"


def test_text_data_and_what_others_print(capsys) -> None:
    @click.command()
    def verb() -> int:
        print("a library's own words")
        say("only text")
        say("a number", value=1.5)
        return 3

    from suites import output

    def called(*arguments: str) -> tuple[str, str]:
        with with_json(verb).make_context("verb", list(arguments)) as context, context:
            status = verb.invoke(context)
        output.finish(context, status)
        return capsys.readouterr()

    assert called()[0] == "a library's own words\nonly text\na number\n"
    out, err = called("--json")
    assert json.loads(out) == {"status": 3, "said": [{"text": "only text"}, {"value": 1.5}]}
    assert err == "a library's own words\n"


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("list", "layer"),
        ("claims", "rows"),
        ("match --dim 64 --budget forward_flops --layer dense", "contract"),
        ("run methods --plan --profile smoke", "text"),
        ("run decode_speed --dry-run -k T1-D256", "text"),
        ("compare paper HEAD", "rows"),
    ],
)
def test_verbs_say_it_in_json(command, words: str, key: str) -> None:
    plain, done = command(*words.split()), command(*words.split(), "--json")
    found = json.loads(done.out)
    assert found["status"] == done.status == plain.status
    assert any(key in said for said in found["said"])


def test_a_table_has_its_full_numbers(command, lab: Lab) -> None:
    base, head = lab.commit(), lab.commit()
    files = [lab.measure(commit) for commit in (base, head)]
    done = command("compare", *files, "--json")
    (said,) = json.loads(done.out)["said"]
    assert {"notes", "rows"} == said.keys()
    assert any(isinstance(row["base"], float) for row in said["rows"])


def test_a_wrong_word_says_nothing_in_it(command) -> None:
    done = command("claims", "--json", "--profile", "nosuch")
    assert (done.status, done.out) == (2, "")
    assert "no records of profile nosuch" in done.err
