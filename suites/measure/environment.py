"""Where and with which code a number was made."""

import hashlib
import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

import psutil
import torch

from suites.records.commits import Repository
from suites.records.record import Code, Environment, Gpu

SOURCES = ("peer", "baselines", "suites")
PACKAGES = ("torch", "triton", "numpy", "sentencepiece", "fvcore", "pytest-benchmark")
ROOT = Path(__file__).resolve().parents[2]


def environment() -> Environment:
    """The machine and the versions that decide time, memory and, through kernels, the last bits."""
    return Environment(
        platform=f"{platform.system()} {platform.machine()}",
        cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        memory_bytes=round(
            psutil.virtual_memory().total, -9
        ),  # kernels differ in the last megabytes
        gpu=gpu() if torch.cuda.is_available() else None,
        python=platform.python_version(),
        packages={name: v for name in PACKAGES if (v := version(name)) is not None},
    )


def code() -> Code:
    """The commit of the checkout that this package lies in, and a digest of the sources themselves.

    Raises UserError where there is a checkout and git refuses it.
    """
    # Without .git here, git would answer for a checkout around this one.
    checkout = Repository(ROOT) if (ROOT / ".git").exists() and shutil.which("git") else None
    commit = checkout.head() if checkout else None
    sources = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            sources.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return Code(
        commit=commit,
        dirty=checkout is None or commit is None or checkout.changes() != "",
        sha256=sources.hexdigest(),
    )


def version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def gpu() -> Gpu:
    """The current CUDA device, its driver and power limit by NVML where that is installed."""
    device = torch.cuda.get_device_properties(torch.cuda.current_device())
    driver, watts = "unknown", None
    try:
        import pynvml
    except ImportError:
        pass
    else:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{device.uuid}")
        driver = pynvml.nvmlSystemGetDriverVersion()
        watts = pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000
    return Gpu(
        name=device.name,
        uuid=str(device.uuid),
        driver=driver,
        cuda=torch.version.cuda or torch.version.hip or "none",
        memory_bytes=device.total_memory,
        power_limit_watts=watts,
    )
