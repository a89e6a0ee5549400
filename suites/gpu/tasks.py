"""What a GPU can say: tasks by stage, the most worth first; and the same at tiny sizes on a CPU."""

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

KERNEL_TESTS = ("device", "experts", "retrieve", "stepping", "operators", "layer")
# Three shapes of the three operations: aligned, bent, and with runs that cross pieces.
SANITIZED = "triton and (1-128-256-16-dense-uniform or random_queries and softmax or 9-6-100 and same-adamw)"
SANITIZED_FILES = ("experts", "retrieve", "stepping")
SPEED_SUITES = ("layer_speed", "retrieval_speed", "experts_speed", "decode_speed", "model_speed")
HOT_KERNELS = "regex:fused_experts|runs|weighted_sum|retrieve|match_gradients"
PROCESSES = 8


@dataclass(frozen=True)
class Task:
    """A command of its own process, which keeps what it finished when it is interrupted.

    `{minutes}` in it becomes what is left; `least_s` is what makes its start worth while.
    """

    stage: str
    name: str
    command: tuple[str, ...]
    least_s: float = 20.0
    lacks: Callable[[], str | None] = lambda: None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.stage}-{self.name}"


def lacks_tool(tool: str) -> Callable[[], str | None]:
    return lambda: (
        None if shutil.which(tool) else f"{tool} is not installed; it is of NVIDIA's toolkit"
    )


def lacks_tests() -> str | None:
    here = (Path(__file__).parents[2] / "tests" / "peer").is_dir()
    return None if here else "there are no tests beside this installation; take a checkout"


def python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *arguments)


def pytest(*arguments: str, spread: bool = False) -> tuple[str, ...]:
    several = spread and importlib.util.find_spec("xdist") is not None
    processes = ("--numprocesses", str(PROCESSES)) if several else ()
    return python("pytest", "-q", "-p", "no:cacheprovider", *processes, *arguments)


def file(name: str) -> str:
    return f"tests/peer/test_{name}.py"


def tasks(results: Path | None) -> Iterator[Task]:
    """All of a GPU with tens of gigabytes; profile small of the suites."""
    to = ("--results", str(results)) if results else ()
    for name in KERNEL_TESTS:
        chosen = pytest("-m", "gpu and not exhaustive", file(name), spread=True)
        yield Task("tests", name, chosen, 30, lacks_tests)
    for tool in ("memcheck", "racecheck"):
        command: tuple[str, ...] = ("compute-sanitizer", "--tool", tool, "--error-exitcode", "9")
        command += pytest("-k", SANITIZED, *map(file, SANITIZED_FILES))
        # Blocks of a cache would hide what lies between two tensors.
        own = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        yield Task("sanitizer", tool, command, 60, lacks_tool("compute-sanitizer"), own)
    yield Task("tune", "tiles", python("suites", "tune", "--minutes", "{minutes}", *to), 60)
    for suite in SPEED_SUITES:
        command = python("suites", "run", suite, "--profile", "small", *to)
        yield Task("speed", suite, command, 45)
    profiler: tuple[str, ...] = (
        "ncu",
        "--clock-control",
        "none",
        "--set",
        "basic",
        "--csv",
        "--page",
        "raw",
    )
    profiler += ("--kernel-name", HOT_KERNELS)
    yield Task("counters", "kernels", profiler + python("suites.gpu.hot"), 60, lacks_tool("ncu"))
    command = python("suites", "run", "methods", "--profile", "small", *to)
    yield Task("training", "methods", command, 120)


def rehearsal(results: Path | None) -> Iterator[Task]:
    """The same stages on a CPU: interpreted kernels, tiny sizes, numbers that mean nothing."""
    to = ("--results", str(results)) if results else ()
    own = {"TRITON_INTERPRET": "1"}
    chosen = pytest("-k", "no_tokens and triton", file("retrieve"))
    yield Task("tests", "retrieve", chosen, 1, lacks_tests, own)
    command = ("compute-sanitizer", *pytest("-k", SANITIZED, *map(file, SANITIZED_FILES)))
    yield Task("sanitizer", "memcheck", command, 1, lacks_tool("compute-sanitizer"), own)
    command = python("suites", "tune", "--rehearse", "--minutes", "{minutes}", *to)
    yield Task("tune", "tiles", command, 1)
    cells = ("-k", "T1-D256 and dense")
    command = python("suites", "run", "decode_speed", "--profile", "tiny", *cells, *to)
    yield Task("speed", "decode_speed", command, 1)
    yield Task("counters", "kernels", python("suites.gpu.hot", "--tiny"), 1, environment=own)
    command = python("suites", "run", "methods", "--profile", "smoke", "--layer", "peer", *to)
    yield Task("training", "methods", command, 1)
