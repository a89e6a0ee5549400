"""README.md tells the truth: its commands exist and are run, its example works."""

import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.strip().split("#")[0].strip()
    for line in README.split("## The tree")[0].splitlines()
    if re.match(r"    (pip|nox|python) ", line)
]


def test_example(tmp_path: Path, capsys) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "example.py").write_text(code)
    scope = runpy.run_path(str(tmp_path / "example.py"))
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
