"""Who may import whom: suites → peer, baselines; baselines → peer; peer → nothing of ours."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "peer": {"peer"},
    "baselines": {"baselines", "peer"},
    "suites": {"suites", "baselines", "peer"},
}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("folder", ALLOWED)
def test_arrows(folder: str) -> None:
    ours = set(ALLOWED) | {"tests", "results"}
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        assert imports(path) & ours <= ALLOWED[folder], path


def test_tables_need_no_torch() -> None:
    program = (
        "import sys\n"
        "import suites.records.tables, suites.records.budget, suites.verbs.tables, suites.verbs.claims\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
