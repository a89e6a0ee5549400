"""`python -m suites run` as a user meets it: tables, bad input, failures, kills, a new layer."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from suites.paper import methods
from suites.records.store import read
from suites.sweep.plan import UNREAD

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("run", "methods", "--profile", "smoke", "--layer", "dense")


def records(results: Path) -> list[Path]:
    return sorted((results / "scratch").glob("runs/*/*.json"))


def test_a_run_prints_a_table_and_names_what_it_wrote(suites, tmp_path: Path) -> None:
    done = suites(*QUICK, "--layer", "peer", "--wide", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\| dense +\|", done.stdout, re.M)
    assert re.search(r"^\| peer +\|", done.stdout, re.M)
    folder = Path(done.stdout.split(" in ")[-1].strip())
    assert {"table.md", "table.csv"} < {path.name for path in folder.iterdir()}
    for path in records(tmp_path):
        results = read(path)
        (record,) = results.records
        assert record.metrics["training_flops"] == pytest.approx(6e9, rel=0.02)
        assert record.case["text"]["source"].startswith("stdlib (Python ")
        assert record.case["options"]["activation"] == "gelu"
        assert results.environment.packages["torch"]
    by_layer = {
        read(path).records[0].case["layer"]: read(path).records[0] for path in records(tmp_path)
    }
    assert by_layer["peer"].metrics["implementation"] == "native"


@pytest.mark.parametrize("spelling", ["{}", "~/{}"])
def test_a_run_from_a_folder_of_the_users_own(suites, spelling: str, tmp_path: Path) -> None:
    """Workers run in the checkout: what they read and write has to be where the user named it."""
    texts = [{"text": f"{i} " + "some words " * 100} for i in range(200)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    (tmp_path / "c4.jsonl").write_text((tmp_path / "a.jsonl").read_text())
    around = {
        "PYTHONPATH": str(ROOT),
        "PEER_SUITE_CACHE": spelling.format("own cache"),
        "HOME": str(tmp_path),
    }
    before = set(ROOT.iterdir())
    done = suites(
        *QUICK, "--seeds", "1", "--checkpoint-interval", "0",
        f"--data={spelling.format('a.jsonl')}",
        f"--evaluation=c4={spelling.format('c4.jsonl')}",
        f"--results={spelling.format('my results')}",
        root=tmp_path, environment=around,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = records(tmp_path / "my results")
    (record,) = read(path).records
    assert record.status == "ok", record.reason
    assert record.metrics["c4_documents"] > 0
    made = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert made == {"a.jsonl", "c4.jsonl", "my results", "own cache"}
    assert set(ROOT.iterdir()) == before


@pytest.mark.parametrize("verb", ["list", "run", "tables", "publish"])
def test_every_verb_has_help(suites, verb: str) -> None:
    done = suites(verb, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_list_shows_layers_suites_and_profiles(suites) -> None:
    shown = suites("list").stdout
    for word in (
        "dense_glu",
        "expert_choice",
        "topk_moe",
        "pkm",
        "peer",
        "methods",
        "profiles: smoke, tiny",
    ):
        assert word in shown


def test_a_killed_sweep_resumes_and_repeats_nothing(cache: Path, tmp_path: Path) -> None:
    """SIGKILL at a random moment of the sweep; what was written is whole and is not made again."""
    words = [sys.executable, "-m", "suites", *QUICK, "--seeds", "4", "--results", str(tmp_path)]
    call = {"cwd": ROOT, "env": os.environ | {"PEER_SUITE_CACHE": str(cache)}}
    sweep = subprocess.Popen(words, **call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(random.uniform(3, 12))
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    before = {path: (path.stat().st_mtime_ns, read(path)) for path in records(tmp_path)}
    done = subprocess.run(words, **call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(records(tmp_path)) == 4
    for path, (time_ns, results) in before.items():
        assert path.stat().st_mtime_ns == time_ns
        assert read(path) == results
    if before:
        assert f"{len(before)} of 4 runs exist already" in done.stderr
    missing = 4 - len(before)
    counted = re.findall(rf"; (\d) of {missing} runs, about", done.stderr)
    assert counted == [str(number) for number in range(1, missing + 1)]
    again = subprocess.run(words, **call, capture_output=True, text=True)
    assert "4 of 4 runs exist already" in again.stderr
    assert again.stdout == done.stdout


def workers_of(sweep: subprocess.Popen) -> list[psutil.Process]:
    """The process of each slot, and the forks that train."""
    children = psutil.Process(sweep.pid).children(recursive=True)
    return [child for child in children if "suites.sweep.worker" in child.cmdline()]


def test_nothing_outlives_a_sweep_whose_process_alone_is_killed(
    cache: Path, tmp_path: Path
) -> None:
    words = [
        "run",
        "methods",
        "--layer",
        "dense",
        "--seeds",
        "1",
        "--budget",
        "1e14",
        "--jobs",
        "1",
    ]
    sweep = subprocess.Popen(
        [sys.executable, "-m", "suites", *words, "--results", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PEER_SUITE_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while len(workers := workers_of(sweep)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers) == 2
    sweep.kill()
    sweep.wait()
    assert psutil.wait_procs(workers, timeout=60)[1] == []


def test_a_worker_whose_sweep_died_while_it_started_takes_no_job(tmp_path: Path) -> None:
    """The job is in its pipe by then. It names no corpus, so that taking it would end at once."""
    case = methods.PROFILES["smoke"].cases(UNREAD)[0].model_dump(mode="json")
    job = {"case": case, "corpus": str(tmp_path), "sets": [], "checkpoint": str(tmp_path / "c")}
    starter = (
        "import os, subprocess, sys\n"
        "words = [sys.executable, '-m', 'suites.sweep.worker', str(os.getpid())]\n"
        "worker = subprocess.Popen(words, stdin=subprocess.PIPE, text=True)\n"
        "worker.stdin.write(sys.argv[1] + '\\n')\n"
        "worker.stdin.flush()\n"
        "os._exit(0)\n"
    )
    words = [sys.executable, "-c", starter, json.dumps(job | {"checkpoint_interval_s": 1})]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, timeout=120)
    assert done.stdout == b""


def test_interrupt_ends_workers_and_keeps_what_finished(cache: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "suites",
        "run",
        "methods",
        "--layer",
        "dense",
        "--seeds",
        "2",
        "--results",
        str(tmp_path),
    ]
    sweep = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PEER_SUITE_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that started the tests in the background has them ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while not workers_of(sweep) and time.monotonic() < deadline:
        time.sleep(0.2)
    workers = workers_of(sweep)
    assert workers
    os.killpg(sweep.pid, signal.SIGINT)
    _, errors = sweep.communicate(timeout=30)
    assert sweep.returncode == 130
    assert "interrupted; what finished is kept" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.rglob(".*.json.*")) == []
    assert psutil.wait_procs(workers, timeout=10)[1] == []


def copy_of_the_suite(folder: Path) -> Path:
    for name in ("peer", "baselines", "suites"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_a_layer_is_one_file_and_one_line(suites, tmp_path: Path) -> None:
    root = copy_of_the_suite(tmp_path / "copy")
    (root / "baselines" / "linear.py").write_text(
        "from torch import nn\n\nfrom peer.counted import Counted\n\n\n"
        "class Linear(Counted, nn.Linear):\n"
        '    """A square matrix."""\n\n'
        "    def __init__(self, dim: int) -> None:\n        super().__init__(dim, dim, bias=False)\n\n"
        "    def parameter_parts(self):\n        return {'matrix': self.weight.numel()}\n\n"
        "    def flops(self, tokens):\n        return {'matrix': 2 * tokens * self.weight.numel()}\n"
    )
    registry = root / "suites" / "layers.py"
    line = '    "dense": DenseFFW,\n'
    added = '    "linear": __import__("baselines.linear").linear.Linear,\n'
    assert line in registry.read_text()
    registry.write_text(registry.read_text().replace(line, line + added))
    assert re.search(r"linear\n +A square matrix", suites("list", root=root).stdout)
    done = suites(
        *QUICK, "--layer", "linear", "--wide", "--results", tmp_path / "results", root=root
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\| linear +\|", done.stdout, re.M)
    assert re.search(r"\| none\+dirty +\|", done.stdout)


def test_an_experiment_is_one_file_and_one_line(suites, tmp_path: Path) -> None:
    root = copy_of_the_suite(tmp_path / "copy")
    keys = (root / "suites" / "paper" / "keys.py").read_text()
    (root / "suites" / "paper" / "topk.py").write_text(
        keys.replace("shared_keys=shared", "topk=topk")
        .replace("for shared in (True, False)", "for topk in (8, 16)")
        .replace(
            '{"keys shared": "options.shared_keys"}, "keys shared"', '{"k": "options.topk"}, "k"'
        )
        .replace('training_command("keys"', 'training_command("topk"')
    )
    registry = root / "suites" / "registry.py"
    line = '    "keys": Suite("paper.keys", "arms.sheets", "arms.intervals"),\n'
    added = line.replace("keys", "topk")
    assert line in registry.read_text()
    registry.write_text(registry.read_text().replace(line, line + added))
    results = tmp_path / "results"
    done = suites("run", "topk", "--profile", "smoke", "--wide", "--results", results, root=root)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\| +k +\|", done.stdout, re.M)
    assert re.search(r"^\| +16 +\|", done.stdout, re.M)
    assert len(list(results.rglob("topk.svg"))) == 1


FAULTS = {
    "expert_choice": ("baselines", "raise RuntimeError('boom')", "error", "RuntimeError: boom"),
    "topk_moe": ("baselines", "raise MemoryError('no room')", "oom", "MemoryError: no room"),
    "pkm": ("baselines", "import os; os.kill(os.getpid(), 9)", "error", "not by the kernel"),
    "layer": ("peer", "import os; os._exit(7)", "error", "worker ended with 7"),
}


def test_a_failing_case_is_a_record_and_the_sweep_goes_on(suites, tmp_path: Path) -> None:
    root = copy_of_the_suite(tmp_path / "copy")
    head = re.compile(
        r"(    def forward\(self, x: Tensor[^)]*\) -> [^\n]+:\n        \"\"\"[^\"]*\"\"\"\n)"
    )
    for name, (folder, fault, _, _) in FAULTS.items():
        path = root / folder / f"{name}.py"
        text, count = head.subn(rf"\1        {fault}\n", path.read_text(), count=1)
        assert count == 1, name
        path.write_text(text)
    layers = [*FAULTS, "dense"]
    layers[layers.index("layer")] = "peer"
    chosen = [word for layer in layers for word in ("--layer", layer)]
    results = tmp_path / "results"
    done = suites("run", "methods", "--profile", "smoke", *chosen, "--results", results, root=root)
    assert done.returncode == 1, done.stderr
    found = {read(p).records[0].case["layer"]: read(p).records[0] for p in records(results)}
    assert found["dense"].status == "ok"
    for layer, (_, _, status, reason) in zip(layers, FAULTS.values(), strict=False):
        assert found[layer].status == status
        assert reason in (found[layer].reason or "")
        assert f"{layer}, seed 0: {status}, " in done.stdout
    header = json.loads(records(results)[0].read_text())
    assert header["code"]["commit"] is None
    assert header["code"]["dirty"] is True
