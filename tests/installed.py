"""What the wheel alone must do, in an environment that has nothing else: python -I tests/installed.py."""

import importlib.metadata
import importlib.util
import sysconfig
from pathlib import Path

import torch

import peer
from peer.choice import IMPLEMENTATIONS, measured

INSTALLED = Path(sysconfig.get_path("purelib")) / "peer"
NOT_NEEDED = ("numba", "scipy", "pandas", "matplotlib", "click", "pydantic", "pytest")


def refusal(layer: torch.nn.Module, **options: str) -> str:
    """What building and calling `layer` with an implementation that cannot run says."""
    try:
        layer(16, experts=16, topk=2, **options)(torch.randn(2, 16))
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{options} ran")


assert Path(peer.__file__).parent == INSTALLED, peer.__file__
assert importlib.metadata.version("peer-suite") == peer.__version__
assert (INSTALLED / "py.typed").exists()
assert measured()
for name in ("suites", "baselines", *NOT_NEEDED):
    assert importlib.util.find_spec(name) is None, f"{name} came with the wheel"

layer = peer.PEER(16, experts=64, heads=2, topk=4)
assert "impl='auto' -> 'aten'" in repr(layer), layer
assert "pip install numba" in str(peer.explain(layer, tokens=8))
tokens = torch.randn(2, 8, 16, requires_grad=True)
layer(tokens).square().sum().backward()
assert tokens.grad is not None
assert all(p.grad is not None for p in layer.parameters())
outputs = []
for name in IMPLEMENTATIONS:
    if name in ("native", "triton", "compiled"):  # the last needs a C++ compiler
        continue
    torch.manual_seed(0)
    outputs.append(peer.PEER(16, experts=64, heads=2, topk=4, impl=name)(tokens.detach()))
for output in outputs:
    torch.testing.assert_close(output, outputs[0])
assert "pip install numba" in refusal(peer.PEER, impl="native")
if importlib.util.find_spec("triton") is None:
    assert "pip install triton" in refusal(peer.PEER, impl="triton")
print(f"peer {peer.__version__} works from {INSTALLED} with torch {torch.__version__}")
