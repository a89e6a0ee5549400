"""Every check and every run of the suite: `nox -l` is the manual."""

import os
import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests"]

PROJECT = nox.project.load_toml("pyproject.toml")
HAS_GPU = shutil.which("nvidia-smi") is not None
OWN = ("peer", "faults", "slurm", "distributed")  # folders of tests that have sessions
ELSEWHERE = [f"--ignore=tests/{name}" for name in OWN]
LOCKED = ("ci", "test", "lint", "types", "hub", "docs", "torch")  # groups of which CI has all
SLURM = ("slurmctld", "slurmd", "slurm-client", "munge")  # Debian's and Ubuntu's packages
PROVEN = ("-m", "not exhaustive", "tests/peer")
CLEAN = ".nox/clean"  # where session build installs the wheel and nothing else
# Where there is no NVIDIA GPU, an open range of torch would bring gigabytes of CUDA.
CONSTRAINTS = () if HAS_GPU else ("--constraint", "constraints-cpu.txt")


def prepare(session: nox.Session, *groups: str, extras: tuple[str, ...] = ()) -> None:
    """Installs the suites, editable since they run from here and no stale copy is measured, and groups.

    `nox --no-venv` takes the interpreter at hand as it is, packages and all.
    """
    if session.virtualenv.is_sandboxed:
        wanted = [
            name for group in groups for name in nox.project.dependency_groups(PROJECT, group)
        ]
        chosen = ["suites", *extras, *(["gpu"] if HAS_GPU else [])]
        session.install(*CONSTRAINTS, "--editable", f".[{','.join(chosen)}]", *wanted)


@nox.session
def reproduce(session: nox.Session) -> None:
    """Train dense, MoE, PKM and PEER at matched FLOPs and print the table; arguments go to `suites run`."""
    prepare(session)
    session.run("python", "-m", "suites", "run", "methods", *session.posargs)


@nox.session
def paper(session: nox.Session) -> None:
    """Every table and figure of the paper with its verdicts; arguments go to `suites paper`."""
    prepare(session)
    session.run("python", "-m", "suites", "paper", *session.posargs)


@nox.session
def successors(session: nox.Session) -> None:
    """Compare PEER with what came after it and judge their claims; arguments go to `suites run`."""
    prepare(session)
    session.run("python", "-m", "suites", "run", "successors", *session.posargs)


@nox.session
def claims(session: nox.Session) -> None:
    """Judge the paper's claims on the committed records; arguments go to `suites claims`."""
    prepare(session)
    session.run("python", "-m", "suites", "claims", *session.posargs)


@nox.session
def flops(session: nox.Session) -> None:
    """Count FLOPs three ways, bytes and parameters; match budgets; arguments go to `suites run`."""
    prepare(session, "test")  # brings triton, whose operators are counted like the others
    session.run("python", "-m", "suites", "run", "flops", *session.posargs)


@nox.session
def kernels(session: nox.Session) -> None:
    """Prove the PEER operation: interpreted, compiled, its code executed here, run where there is a GPU."""
    prepare(session, "test")
    session.run("pytest", "--numprocesses", "2", *PROVEN, *session.posargs)


@nox.session(name="kernels-oldest")
def kernels_oldest(session: nox.Session) -> None:
    """The same with the oldest Triton that is supported, which GPU machines have beside their torch."""
    prepare(session, "test")
    session.install("triton==3.6.*")
    session.run("pytest", "--numprocesses", "2", *PROVEN, *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Time layers and operations beside rivals and the roof; arguments: one suite, `suites run`'s options."""
    prepare(session, extras=("rivals",))
    named = bool(session.posargs) and not session.posargs[0].startswith("-")
    suite = () if named else ("speed",)
    # 3: a busy machine disturbed some cells, which are marked so and which no table compares.
    command = ("python", "-m", "suites", "run", *suite, *session.posargs)
    session.run(*command, success_codes=[0, 3])


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests that no other session runs, on two processes; arguments replace that choice."""
    prepare(session, "test")
    session.run("pytest", "--numprocesses", "2", *(session.posargs or ELSEWHERE))


@nox.session
def faults(session: nox.Session) -> None:
    """Kill, end, fill and cut off what runs: 100 kills, in a quarter of an hour; arguments: --kills N."""
    prepare(session, "test")
    session.run("pytest", "tests/faults", *session.posargs)


@nox.session
def slurm(session: nox.Session) -> None:
    """Start a Slurm of two nodes here, disturb a sweep on it, compare with a local one; needs root."""
    prepare(session, "test")
    there = Path("/usr/sbin/slurmctld").exists() or shutil.which("slurmctld")
    if not there and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = ("apt-get", "--quiet", "--quiet", "--yes", "--no-install-recommends")
        session.run("apt-get", "update", "--quiet", "--quiet", external=True)
        session.run(
            *quiet, "install", *SLURM, external=True, env={"DEBIAN_FRONTEND": "noninteractive"}
        )
    session.run("pytest", "tests/slurm", *session.posargs)


@nox.session
def distributed(session: nox.Session) -> None:
    """Hold 2 and 4 processes that share one model to one alone, and the bytes they send to the formula."""
    prepare(session, "test")
    session.run("pytest", "tests/distributed", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff, workflows against GitHub's schema and by zizmor."""
    if session.virtualenv.is_sandboxed:
        session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    workflows = sorted(map(str, Path(".github/workflows").glob("*.yml")))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    session.run("zizmor", "--offline", "--quiet", *workflows)


@nox.session
def lock(session: nox.Session) -> None:
    """Write what CI installs, by hash, into .ci/locked/: nox, and all that the sessions need but torch."""
    session.install(*nox.project.dependency_groups(PROJECT, "lock"))
    compiled = ("uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11",
                "--generate-hashes", "--no-header", "--no-annotate")  # fmt: skip
    session.run(*compiled, "--group", "ci", "--output-file", ".ci/locked/nox.txt")
    extras = [f"--extra={name}" for name in ("suites", "rivals")]
    groups = [f"--group={name}" for name in LOCKED]
    # torch's wheels differ by index: constraints-cpu.txt pins its version, the group what it needs.
    session.run(*compiled, "pyproject.toml", *extras, *groups, "--override", ".ci/locked/torch.txt",
                "--output-file", ".ci/locked/all.txt")  # fmt: skip


@nox.session
def types(session: nox.Session) -> None:
    """Check types with the pinned mypy."""
    prepare(session, "types")
    session.run("mypy")


@nox.session
def tables(session: nox.Session) -> None:
    """Check that every committed table and figure is what its records give, byte for byte; needs no torch."""
    groups = nox.project.dependency_groups(PROJECT, "tables")
    session.install("--constraint", "constraints-cpu.txt", *groups)
    session.run("python", "-m", "suites", "tables", "--check")
    session.run("python", "-m", "suites", "figures", "--check")


@nox.session
def report(session: nox.Session) -> None:
    """Write the static pages of all records into results/report/ and say where they lie; needs no torch."""
    groups = nox.project.dependency_groups(PROJECT, "report")
    session.install("--constraint", "constraints-cpu.txt", *groups)
    session.run("python", "-m", "suites", "report", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the guide of docs/ into dist/guide, warnings being errors, and say where it lies; no network."""
    prepare(session, "docs")
    guide = Path("dist/guide")
    session.run("sphinx-build", "-W", "--keep-going", "-n", "-q", "-c", "docs", ".", str(guide))
    # A host shows the index at the top; the pages lie as in the repository, for links between files.
    (guide / "index.html").write_text(
        '<meta http-equiv="refresh" content="0; url=docs/index.html">\n'
    )
    print((guide / "index.html").resolve())


@nox.session(name="report-browser", requires=["report"])
def report_browser(session: nox.Session) -> None:
    """Open, sort, filter and follow the report in chromium; without one it skips, and says so."""
    session.install(*nox.project.dependency_groups(PROJECT, "browser"))
    session.run("pytest", "--noconftest", "tests/report/browser.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build wheel and source distribution into dist/, and use the layer where nothing but the wheel is."""
    session.install("build")
    shutil.rmtree("dist/packages", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", "dist/packages")
    (wheel,) = Path("dist/packages").glob("*.whl")
    clean = Path(CLEAN).resolve()
    session.run("python", "-m", "venv", "--clear", str(clean))
    python = str(clean / "bin" / "python")
    session.run(python, "-m", "pip", "install", *CONSTRAINTS, str(wheel.resolve()), external=True)
    # Isolated: without the checkout on its path.
    session.run(python, "-I", str(Path("tests/installed.py").resolve()), external=True)


@nox.session
def hub(session: nox.Session) -> None:
    """Assemble the layer for Hugging Face's kernels, try it, the example in a decoder and the kernel task."""
    prepare(session, "test", "hub")
    session.run("pytest", "tests/interop", *session.posargs)
    shutil.rmtree("dist/peer-kernel", ignore_errors=True)
    session.run("python", "interop/hub_kernel.py", "dist/peer-kernel")


@nox.session
def newcomer(session: nox.Session) -> None:
    """Walk the README from a fresh clone: its commands, the wheel in examples, report and export."""
    clone = Path(session.create_tmp()).resolve() / "clone"
    shutil.rmtree(clone, ignore_errors=True)
    session.run("git", "clone", "--quiet", str(Path.cwd()), str(clone), external=True)
    session.install("nox")
    session.chdir(clone)
    session.run("nox", "-s", "reproduce", "--", "--profile", "smoke")
    session.run("nox", "-s", "build")
    suites, clean = (str(clone / place / "bin/python") for place in (".nox/reproduce", CLEAN))
    transformers = [
        name for name in nox.project.dependency_groups(PROJECT, "hub") if "trans" in name
    ]
    session.run(clean, "-m", "pip", "install", *CONSTRAINTS, *transformers, external=True)
    pages = [f"docs/{page}.md" for page in ("start", "layer", "sizes", "transformers")]
    session.run(clean, "-I", "tests/examples.py", "README.md", *pages, external=True)
    session.run("nox", "-s", "report")
    session.run(suites, "tests/followed.py", "results/report", external=True)
    session.run(suites, "-m", "suites", "export", external=True)
    read = "import pandas; print(pandas.read_parquet('dist/results/results.parquet'))"
    session.run(suites, "-c", read, external=True)


@nox.session(tags=["gpu"])
def regress(session: nox.Session) -> None:
    """Measure BASE and HEAD in paired rounds and fail on a regression: nox -s regress -- BASE [HEAD]."""
    prepare(session, extras=("triton",))  # whose kernels are counted with --exact
    session.run("python", "-m", "suites", "regress", *session.posargs)


@nox.session(name="gate-selftest", tags=["gpu"])
def gate_selftest(session: nox.Session) -> None:
    """Test the gate: no alarm on identical code, an alarm at 5 and 10 percent, simulated rates."""
    prepare(session)
    session.run("python", "-m", "suites", "selftest", *session.posargs)


@nox.session(tags=["gpu"])
def gpu(session: nox.Session) -> None:
    """Spend a GPU's minutes on tests, tuner, times and training: nox -s gpu -- --minutes M."""
    prepare(session, "test", extras=("rivals",))
    session.run("python", "-m", "suites", "gpu", *session.posargs)


@nox.session(tags=["gpu"])
def nightly(session: nox.Session) -> None:
    """Measure the layers on a GPU, publish the run and rebuild the tables."""
    prepare(session, extras=("rivals",))
    session.run("python", "-m", "suites", "run", "layer_speed", "--profile", "small")
    for run in sorted(Path("results/scratch/layer_speed-small").iterdir()):
        session.run("python", "-m", "suites", "publish", str(run))
    session.run("python", "-m", "suites", "tables")
