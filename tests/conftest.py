"""Shared by all tests: one thread per worker, and no cache or result outside the test's own folder."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
import torch

from tests.cells import cell, result_file
from tests.lab import command, lab, verdicts

__all__ = ("cell", "command", "lab", "result_file", "verdicts")  # fixtures of all folders
ROOT = Path(__file__).resolve().parents[1]
if not torch.cuda.is_available():
    # Read when a kernel is defined, so it is set before any test imports one.
    os.environ["TRITON_INTERPRET"] = "0" if "tests.peer.machine.plugin" in sys.modules else "1"
# A pytest that a test starts is no worker of this one's pool.
for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
    del os.environ[name]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token cache of this test session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def suites(cache: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m suites …` as a user does, from any checkout."""

    def call(*arguments: object, root: Path = ROOT, **options) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PEER_SUITE_CACHE": str(cache)} | options.pop("environment", {})
        return subprocess.run(
            [sys.executable, "-m", "suites", *map(str, arguments)],
            cwd=root,
            env=environment,
            text=True,
            capture_output=True,
            timeout=240,
            **options,
        )

    return call


@pytest.fixture(scope="session")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SentencePiece model trained here."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(
            f"the expert {i} retrieves a product key from one million networks" for i in range(200)
        ),
        model_writer=model,
        vocab_size=40,
        byte_fallback=False,
        minloglevel=2,
    )
    path = tmp_path_factory.mktemp("tokenizer") / "own.model"
    path.write_bytes(model.getvalue())
    return path
