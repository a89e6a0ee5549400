"""One session, one way to run the kernels: on a GPU where there is one, otherwise interpreted on
the CPU, or compiled and executed there (`tests.peer.machine.plugin`).
"""

import contextlib
import os
import sys
import warnings

import pytest
import torch

# Read when cuBLAS starts; without it deterministic mode refuses every matrix product on a GPU.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GPU = f"run on {torch.cuda.get_device_name()}" if DEVICE == "cuda" else "run on a GPU"
EXECUTES = "tests.peer.machine.plugin" in sys.modules


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """`-m gpu` selects every test that runs kernels, not only those that need a GPU to do so."""
    for item in items:
        if "kernel_device" in getattr(item, "fixturenames", ()):
            item.add_marker("gpu")


@contextlib.contextmanager
def refused_waits():
    """RuntimeError where the host would wait for the device."""
    try:
        set_sync_debug_mode("error")
        yield
    finally:
        set_sync_debug_mode("default")


def set_sync_debug_mode(mode: str) -> None:
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # "a prototype feature"
        torch.cuda.set_sync_debug_mode(mode)


@pytest.fixture
def device():
    return torch.device(DEVICE)


@pytest.fixture
def kernel_device(request, device):
    """The device of a case that may run kernels; counts a Triton case by how it ran."""
    parameters = getattr(request.node, "callspec", None)
    if parameters is None or parameters.params.get("impl", "triton") == "triton":
        how = "executed" if EXECUTES else GPU if DEVICE == "cuda" else "interpreted"
        request.node.user_properties.append(("kernels", how))
    return device


@pytest.fixture
def count_kernels(request):
    """Counts cases that a process of their own compiled or executed."""

    def count(how: str, number: int) -> None:
        request.node.user_properties.append(("kernels", how, number))

    return count


@pytest.fixture
def nan_filled():
    """`torch.empty` is filled with NaN, so that an output left unwritten cannot pass."""
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = fill


def pytest_terminal_summary(terminalreporter):
    counts = {"interpreted": 0, "compiled": 0, "executed": 0, GPU: 0}
    for report in terminalreporter.stats.get("passed", []):
        for name, *value in getattr(report, "user_properties", ()):
            if name == "kernels":
                counts[value[0]] += value[1] if len(value) > 1 else 1
    line = ", ".join(f"{number} {what}" for what, number in counts.items())
    terminalreporter.write_line(f"kernel cases passed: {line}")
