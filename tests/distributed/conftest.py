"""What 4 and 2 processes found, once for all tests: the 2 go on from a checkpoint of the 4."""

from pathlib import Path
from typing import Any

import pytest
import torch

from suites.text.corpus import Corpus, prepare
from suites.text.sources import StandardLibrary
from suites.text.tokenizer import Bytes
from tests.distributed.processes import work


@pytest.fixture(scope="session")
def corpus(cache: Path) -> Corpus:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEER_SUITE_CACHE", str(cache))
        return prepare(StandardLibrary(), None, Bytes())


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="session")
def found(corpus: Corpus, folder: Path) -> dict[int, dict[str, Any]]:
    """Number of processes → what the first of them found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        for ranks in (4, 2):
            given = (ranks, str(folder), str(corpus.folder))
            torch.multiprocessing.spawn(work, given, nprocs=ranks)
    return {ranks: torch.load(folder / f"{ranks}.pt") for ranks in (4, 2)}
