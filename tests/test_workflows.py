"""What may run on a self-hosted runner, with which rights, and by which code of others."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
NO_FORK = "github.event.pull_request.head.repo.full_name == github.repository"


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> dict:
    # `on` is a boolean in YAML 1.1; nothing here asks for it by name.
    return yaml.safe_load(request.param.read_text())


def test_there_are_workflows() -> None:
    assert {path.stem for path in WORKFLOWS} >= {"gpu-gate", "exact-gate", "nightly"}


def test_actions_are_pinned_by_sha(workflow: dict) -> None:
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"]), step["uses"]


def test_permissions_are_least(workflow: dict) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        if job.get("permissions"):
            assert name == "extend-history"
            assert "self-hosted" not in job["runs-on"]


def test_forks_never_reach_our_runners(workflow: dict) -> None:
    triggers = workflow[True]
    assert "pull_request_target" not in triggers
    for job in workflow["jobs"].values():
        if "self-hosted" in job["runs-on"] and "pull_request" in triggers:
            assert NO_FORK in job["if"]


def test_one_run_per_gpu(workflow: dict) -> None:
    if any("self-hosted" in job["runs-on"] for job in workflow["jobs"].values()):
        assert workflow["concurrency"] == {"group": "gpu", "cancel-in-progress": False}


def test_no_expression_reaches_a_shell(workflow: dict) -> None:
    """A branch name in `run:` is an injection; values travel through `env:`."""
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")
