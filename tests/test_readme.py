"""README.md and docs/ tell the truth: commands exist and parse, the example works, links lead somewhere."""

import json
import re
import shlex
import tomllib
from itertools import pairwise
from pathlib import Path

import click
import pytest

from tests.examples import run

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {
    path: path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"))
}
COMMANDS = [
    line.strip().split("#")[0].strip()
    for page in PAGES.values()
    for line in page.splitlines()
    if re.match(r" {4,}(pip|nox|python|pytest) ", line)
]
# What a page leaves to its reader, and something that could stand there.
PLACEHOLDERS = {"SUITE": "keys", "NAME": "keys", "FOLDER": ".", "DIR": ".", "BASE": "HEAD"}
LISTED = "docs/verbs.md"  # verbs without their arguments
MOST_WORDS = 900


def test_example(capsys) -> None:
    scope = run(ROOT / "README.md")
    assert scope["output"].shape == scope["tokens"].shape
    assert "-> 'native'" in capsys.readouterr().out


def test_sessions_exist_and_ci_runs_them() -> None:
    noxfile, ci = (ROOT / "noxfile.py").read_text(), (ROOT / ".ci" / "run").read_text()
    sessions = {c.split()[2] for c in COMMANDS if c.startswith("nox -s")}
    assert {"reproduce", "tests"} <= sessions
    for session in sessions:
        function = session.replace("-", "_")
        assert re.search(rf"^def {function}\(session: nox.Session\)", noxfile, re.MULTILINE), (
            session
        )
        if session != "gpu":  # rehearsed by tests/gpu, which ask for more than that it ends
            assert re.search(rf"nox (--no-venv )?-s .*\b{session}\b", ci), session
    assert "pip install nox" in COMMANDS


def test_every_session_says_what_it_does() -> None:
    noxfile = (ROOT / "noxfile.py").read_text()
    sessions = re.findall(r"^@nox\.session.*\ndef \w+\(.*\n(.*)$", noxfile, re.MULTILINE)
    assert len(sessions) >= 5
    for first_line in sessions:
        assert re.match(r'    """[A-Z].*\.', first_line), first_line


def test_every_verb_is_listed() -> None:
    from suites.__main__ import VERBS

    listed = re.findall(r"^    python -m suites (\w+)", (ROOT / LISTED).read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(VERBS)


def words_of(command: str) -> list[str]:
    """The arguments of `python -m suites` that a command line, or its nox session, ends in."""
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(command)]
    if words[:3] == ["python", "-m", "suites"]:
        return words[3:]
    if words[:2] != ["nox", "-s"] or "--" not in words:
        return []
    session, given = words[2].replace("-", "_"), words[words.index("--") + 1 :]
    noxfile = (ROOT / "noxfile.py").read_text()
    body = noxfile.split(f"def {session}(")[1].split("@nox.session")[0]
    verb = re.findall(r'"python", "-m", "suites", ((?:"\w+", )+)\*', body)[-1]
    named = [] if "suite = ()" not in body or not given[0].startswith("-") else ["speed"]
    return [*re.findall(r"\w+", verb), *named, *given]


def parse(command: click.Command, words: list[str]) -> None:
    """As click does before it calls anything; a group hands on to the command that it names."""
    with command.make_context(command.name, words) as context:
        if isinstance(command, click.Group):
            rest = [*context._protected_args, *context.args]
            _, found, rest = command.resolve_command(context, rest)
            assert found is not None
            parse(found, rest)


@pytest.mark.parametrize("command", [c for c in dict.fromkeys(COMMANDS) if words_of(c)])
def test_commands_parse(command: str) -> None:
    from suites.__main__ import main

    try:
        parse(main, words_of(command))
    except click.MissingParameter:
        assert command in (ROOT / LISTED).read_text()


@pytest.mark.parametrize("command", [c for c in dict.fromkeys(COMMANDS) if c[:3] in ("pip", "pyt")])
def test_what_is_installed_or_tested_exists(command: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tool, *words = shlex.split(command)
    extras = [extra for word in words for extra in re.findall(r"^\.\[(.*)\]$", word)]
    assert set(extras) <= set(project["project"]["optional-dependencies"])
    after = dict(pairwise(words))
    assert after.get("--group", "test") in project["dependency-groups"]
    named = {after.get("--constraint", "."), *(words[:1] if tool == "pytest" else ())}
    assert all((ROOT / path).exists() for path in named)


def test_a_command_that_does_not_parse_is_found() -> None:
    from suites.__main__ import main
    from suites.errors import UserError

    with pytest.raises(click.NoSuchOption):
        parse(main, words_of("nox -s reproduce -- --seed 3"))
    with pytest.raises(click.UsageError, match="unexpected extra"):
        parse(main, words_of("python -m suites history methods --suite methods --case peer"))
    with pytest.raises(UserError, match="unknown suite"):
        parse(main, words_of("nox -s bench -- layers"))


def test_readme_is_short() -> None:
    assert len(README.split()) <= MOST_WORDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", PAGES[page])
    local = [link for link in links if not link.startswith(("http", "hf:"))]
    assert not [link for link in local if not (page.parent / link).exists()]


def test_the_tree_is_true() -> None:
    """Every folder and file that it shows is there, and every room of the suites is shown."""
    lines = PAGES[ROOT / "docs" / "tree.md"].splitlines()
    shown, folder = set(), ""
    for line in lines:
        names = re.findall(r"(?:^ +|  )([\w.]+/?)(?=  )", line)
        if line.startswith("      "):
            shown |= {folder + name for name in names}
        elif names:
            shown |= set(names)
            (folder,) = names
    assert all((ROOT / name).exists() for name in shown), shown
    rooms = {f"suites/{path.parent.name}/" for path in (ROOT / "suites").glob("*/__init__.py")}
    files = {f"suites/{path.name}" for path in (ROOT / "suites").glob("[a-z]*.py")}
    assert rooms | files - {"suites/errors.py"} <= shown


def test_own_text_and_tokenizer(suites, tmp_path: Path, pieces: Path) -> None:
    """The arguments that README.md shows for local text, on small files."""
    (shown,) = [c for c in COMMANDS if "--data train" in c]
    for name, ids in (("train", range(2000)), ("heldout", range(2000, 2200))):
        rows = "".join(
            json.dumps({"text": f"the expert {i} retrieves a key " * 20}) + "\n" for i in ids
        )
        (tmp_path / f"{name}.jsonl").write_text(rows)
    arguments = shown.split(" -- ")[1].replace("train.parquet", str(tmp_path / "train.jsonl"))
    arguments = arguments.replace("heldout.parquet", str(tmp_path / "heldout.jsonl"))
    arguments = arguments.replace("pieces.model", str(pieces)).replace("2e12", "3e9")
    done = suites(
        "run",
        "methods",
        "--profile",
        "smoke",
        "--layer",
        "dense",
        *arguments.split(),
        "--results",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "train.jsonl, tokenizer own.model" in done.stdout
