"""A container's limit is the memory that there is, and tables beyond it are refused, not killed."""

from pathlib import Path

import pytest
import torch

from peer import PEER, memory
from suites.measure.memory import available_bytes

GB = 10**9


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine whose control groups are folders here: (version, group, root of the mount)."""

    def make(version: int, group: str = "/box/app", root: str = "/") -> Path:
        place = tmp_path / "fs"
        kind, controllers, line = {
            1: ("cgroup", "memory", f"4:memory:{group}\n0::/\n"),
            2: ("cgroup2", "rw", f"0::{group}\n"),
        }[version]
        (tmp_path / "mounts").write_text(
            f"31 23 0:28 / {tmp_path} rw,relatime - tmpfs tmpfs rw,mode=755\n"
            f"35 31 0:32 {root} {place} rw,relatime shared:1 - {kind} {kind} rw,{controllers}\n"
        )
        (tmp_path / "groups").write_text(line)
        monkeypatch.setattr(memory, "MOUNTS", tmp_path / "mounts")
        monkeypatch.setattr(memory, "MEMBERSHIP", tmp_path / "groups")
        own = place / Path(group).relative_to(root if group.startswith(root) else "/")
        own.mkdir(parents=True)
        return own

    return make


def limit(folder: Path, version: int, most: object, used: int, files: int) -> None:
    most_name, used_name, files_name = memory.FILES[("cgroup", "cgroup2")[version - 1]]
    (folder / most_name).write_text(f"{most}\n")
    (folder / used_name).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 7\n{files_name} {files}\n")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("where", ["own group", "group around it"])
def test_the_limit_of_a_control_group_is_seen(container, version: int, where: str) -> None:
    own = container(version)
    limit(own if where == "own group" else own.parent, version, 1_500_000_000, GB, GB // 2)
    assert memory.memory_bytes() == 1_500_000_000
    assert memory.left_bytes() == GB  # half of what is used are files that can be dropped
    assert available_bytes("cpu") <= 0.9 * GB


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_that_sees_its_own_part_only(container, version: int) -> None:
    own = container(version, group="/docker/1234", root="/docker/1234")
    limit(own, version, 2 * GB, GB, 0)
    assert memory.left_bytes() == GB


def test_a_group_outside_of_what_is_mounted_is_the_mount(container, tmp_path: Path) -> None:
    container(2, group="/elsewhere", root="/docker/1234")
    limit(tmp_path / "fs", 2, 2 * GB, GB, 0)
    assert memory.left_bytes() == GB


def test_no_limit(container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(container(2), 2, "max", GB, 0)
    assert memory.left_bytes() is None
    assert memory.memory_bytes() > GB
    monkeypatch.setattr(memory, "MOUNTS", tmp_path / "none")
    assert memory.left_bytes() is None


def test_tables_beyond_the_limit_are_refused(container) -> None:
    """4.3 GB in a container of 1.5 GB, on whatever host."""
    limit(container(2), 2, 1_500_000_000, GB, 0)
    with pytest.raises(
        MemoryError,
        match="2 × 1,048,576 × 512 float32 take 4.3 GB and this process may fill 1.5 GB",
    ):
        PEER(512, experts=1024**2)
    with torch.device("meta"):
        PEER(512, experts=1024**2)
