"""The kernel repository that `interop/hub_kernel.py` assembles, by the tools of `kernels` itself."""

import sys
from pathlib import Path

import pytest
import torch

import peer
from interop.hub_kernel import BACKENDS, assemble, relative

kernels = pytest.importorskip("kernels", reason="pip install --group hub brings kernels")


def test_imports_become_relative() -> None:
    text = "from peer import aten\nfrom peer.choice import resolve\n    from peer import native\n"
    assert relative(text, 0) == (
        "from . import aten\nfrom .choice import resolve\n    from . import native\n"
    )
    assert relative("from peer.operators.engine import wide\n", 1) == (
        "from ..operators.engine import wide\n"
    )


def test_kernels_finds_loads_and_runs_it(tmp_path: Path) -> None:
    from kernels.variants import get_variants_local, resolve_variant

    repository = tmp_path / "peer-kernel"
    written = assemble(repository)
    found = get_variants_local(repository / "build")
    assert {variant.variant_str for variant in found} == {f"torch-{name}" for name in BACKENDS}
    chosen, _ = resolve_variant(found, "cpu")
    assert chosen is not None
    assert not list(repository.rglob("*.pyc"))
    loaded = kernels.get_local_kernel(repository, backend="cpu")
    assert Path(loaded.__file__).parent in written
    assert loaded.__version__ == peer.__version__
    ours, theirs = (package.PEER(16, experts=64, heads=2, topk=4) for package in (peer, loaded))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 16)
    torch.testing.assert_close(theirs(x), ours(x), rtol=0, atol=0)
    ours.eval()
    theirs.eval()
    with torch.no_grad():  # few tokens: an operator of its own, of an engine that is imported late
        torch.testing.assert_close(theirs(x), ours(x), rtol=0, atol=0)
    assert sys.modules[f"{loaded.__name__}.namespace"].NAMESPACE != peer.namespace.NAMESPACE
