"""README.md and docs/ tell the truth: commands exist and are run, the example works, links lead somewhere."""

import json
import re
from pathlib import Path

import pytest

from tests.examples import run

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {path: path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
COMMANDS = [
    line.strip().split("#")[0].strip()
    for page in PAGES.values()
    for line in page.splitlines()
    if re.match(r"    (pip|nox|python) ", line)
]
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


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python -m suites")])
def test_verbs_exist(command: str) -> None:
    from suites.__main__ import VERBS

    assert command.split()[3] in VERBS


def test_readme_is_short() -> None:
    assert len(README.split()) <= MOST_WORDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", PAGES[page])
    local = [link for link in links if not link.startswith(("http", "hf:"))]
    assert all((page.parent / link).exists() for link in local), local


def test_the_tree_is_true() -> None:
    """Every folder and file that it shows is there, and every room of the suites is shown."""
    lines = PAGES[ROOT / "docs" / "verbs.md"].split("# The tree")[1].splitlines()
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
    (shown,) = [c for c in COMMANDS if "--data" in c]
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
