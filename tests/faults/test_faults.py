"""Kills, orders to end, a full disk, broken files, two sweeps at once: nothing is lost, doubled or half.

Run by `nox -s faults`; `--kills N --moments SEED` choose another campaign.
"""

import os
import random
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.campaign import PHASES, Campaign, wait_for

# Up to when a kill may fall, in seconds: later than most verbs take.
LATEST_S = {"train": 12.0, "publish": 6.0, "tables": 8.0}
MOST = {"train": 6, "publish": 3, "tables": 3}  # kills of a phase before it may end
NO_LOCKS = """
import errno, fcntl

def refused(*_):
    raise OSError(errno.ENOLCK, "no locks available")

fcntl.flock = fcntl.lockf = refused
"""


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory, checkout: Path, cache: Path) -> Campaign:
    """A campaign that nothing disturbed."""
    undisturbed = Campaign(tmp_path_factory.mktemp("quiet"), checkout, cache)
    for phase in PHASES:
        undisturbed.finish(phase)
    return undisturbed


@pytest.fixture
def campaign(tmp_path: Path, checkout: Path, cache: Path) -> Campaign:
    return Campaign(tmp_path / "disturbed", checkout, cache)


def same(one: Campaign, other: Campaign) -> None:
    """Runs to the bit, and as many records, with nothing beside them."""
    assert one.runs() == other.runs()
    assert one.left_over() == []
    published = [sorted(c.results.glob("records/*/*.json")) for c in (one, other)]
    assert [path.name for path in published[0]] == [path.name for path in published[1]]


def test_kills(
    quiet: Campaign,
    tmp_path: Path,
    checkout: Path,
    cache: Path,
    kills: int,
    moments: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chance, fell, rounds = random.Random(moments), Counter[str](), 0
    while fell.total() < kills:
        rounds += 1
        campaign = Campaign(tmp_path / f"round {rounds}", checkout, cache)
        for phase in PHASES:
            known: set[str] = set()
            for _ in range(MOST[phase]):
                latest_s = LATEST_S[phase]
                if fell.total() == kills or not campaign.killed(
                    phase, chance.uniform(0.2, latest_s)
                ):
                    break
                fell[phase] += 1
                campaign.check()
                done = set(campaign.runs())
                assert known <= done, "a finished run was lost"
                known = done
            campaign.finish(phase)
        same(campaign, quiet)
        shutil.rmtree(campaign.results)
    told = ", ".join(f"{fell[phase]} in {phase}" for phase in PHASES)
    with capsys.disabled():
        print(
            f"\n{kills} kills in {rounds} rounds (moments {moments}): {told}; each round ended with the "
            f"{len(quiet.runs())} runs of a quiet one to the bit, no case twice, no half of a file left"
        )


@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGINT], ids=lambda order: order.name)
def test_an_order_to_end_leaves_checkpoints(
    campaign: Campaign, quiet: Campaign, order: signal.Signals
) -> None:
    process = campaign.start("train")
    wait_for(campaign.results, "*.checkpoint", process)
    process.send_signal(order)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT, errors
    assert list(campaign.results.rglob("*.checkpoint")) or campaign.runs()
    assert not [name for name in campaign.left_over() if name.startswith(".")]
    for phase in PHASES:
        campaign.finish(phase)
    same(campaign, quiet)


def test_a_full_disk(campaign: Campaign, quiet: Campaign) -> None:
    """A file system of 300 kB, in a name space of its own."""
    small = campaign.results
    small.mkdir()
    mount = f"mount -t tmpfs -o size=300k none '{small}' && "
    ways = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*ways, f"{mount} true"]).returncode:
        pytest.skip("this system allows no file system of one's own (unshare --user --mount)")
    look = f"; status=$?; ls -A '{small}'/scratch/runs/* 1>&2; exit $status"
    words = " ".join(f"'{word}'" for word in campaign.words("train"))
    done = subprocess.run(
        [*ways, mount + "dd if=/dev/zero of='" + str(small) + "/filler' bs=1k count=250 2>/dev/null; "
         + words + look],
        cwd=campaign.checkout, env=campaign.environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert "MiB free there" in done.stderr
    assert "Traceback" not in done.stderr
    for phase in PHASES:
        campaign.finish(phase)
    same(campaign, quiet)


def test_a_checkpoint_that_was_cut_off_is_named(campaign: Campaign, quiet: Campaign) -> None:
    process = campaign.start("train")
    wait_for(campaign.results, "*.checkpoint", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    broken = sorted(campaign.results.rglob("*.checkpoint"))
    for path in broken:
        path.write_bytes(path.read_bytes()[:-100])
    process = campaign.start("train")
    said, _ = process.communicate()
    assert process.returncode == 1
    for path in broken:
        assert path.name in said
        assert "delete it and run again" in said
        path.unlink()
    for phase in PHASES:
        campaign.finish(phase)
    same(campaign, quiet)


def test_a_record_that_was_cut_off_is_named(campaign: Campaign, quiet: Campaign) -> None:
    campaign.finish("train")
    path = next(campaign.results.glob("scratch/runs/*/*.json"))
    path.write_text(path.read_text()[:-100])
    process = campaign.start("train")
    _, errors = process.communicate()
    assert process.returncode == 2
    assert str(path) in errors
    assert "delete it and run again" in errors
    path.unlink()
    for phase in PHASES:
        campaign.finish(phase)
    same(campaign, quiet)


@pytest.mark.parametrize(
    "locks", [True, False], ids=["locks", "no locks, as on network file systems"]
)
def test_two_sweeps_at_once(
    campaign: Campaign, quiet: Campaign, tmp_path: Path, locks: bool
) -> None:
    environment = {}
    if not locks:
        (tmp_path / "start").mkdir()
        (tmp_path / "start" / "sitecustomize.py").write_text(NO_LOCKS)
        environment["PYTHONPATH"] = f"{tmp_path / 'start'}:{campaign.checkout}"
    both = [campaign.start("train", **environment) for _ in range(2)]
    for process in both:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    for phase in PHASES[1:]:
        campaign.finish(phase)
    same(campaign, quiet)
