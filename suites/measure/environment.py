"""Where and with which code a number was made."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import psutil
import torch

from suites.records.record import Code, Environment, Gpu

SOURCES = ("peer", "baselines", "suites")
PACKAGES = ("torch", "triton", "numpy", "datasets", "sentencepiece", "fvcore", "pytest-benchmark")
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
    """The commit of the checkout that this package lies in, and a digest of the sources themselves."""
    commit = git("rev-parse", "HEAD")
    # Results are data: a table written by one run must not make the next one dirty.
    changes = git("status", "--porcelain", "--untracked-files=all", "--", ".", ":!results")
    sources = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            sources.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return Code(commit=commit, dirty=commit is None or changes != "", sha256=sources.hexdigest())


def git(*arguments: str) -> str | None:
    """Output of git in this checkout, None where there is no git or this is no checkout of it."""
    if not (ROOT / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


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
