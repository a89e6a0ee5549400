"""The memory that this process may fill: the machine's, or what a control group leaves of it."""

import os
from pathlib import Path, PurePosixPath

MEMBERSHIP, MOUNTS = Path("/proc/self/cgroup"), Path("/proc/self/mountinfo")
# file system type of the mount → files with the limit and with what is used of it, both in bytes,
# and the line of memory.stat with what of that are files that the kernel drops when it needs room
FILES = {
    "cgroup2": ("memory.max", "memory.current", "inactive_file"),
    "cgroup": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def memory_bytes() -> int | None:
    """What this process may fill at most; None where the system does not say."""
    limits = [limit for limit, _ in limits_bytes()]
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=None)


def left_bytes() -> int | None:
    """What the tightest control group leaves beside what its processes use; None without a limit."""
    return min((limit - used for limit, used in limits_bytes()), default=None)


def limits_bytes() -> list[tuple[int, int]]:
    """(limit, used) of the control group of this process and of those around it that have a limit."""
    try:
        groups = [line.split(":", 2) for line in MEMBERSHIP.read_text().splitlines()]
        mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
    except OSError:
        return []
    found = []
    for mount in mounts:
        separator = mount.index("-")
        kind, options = mount[separator + 1], mount[separator + 3].split(",")
        if kind not in FILES or (kind == "cgroup" and "memory" not in options):
            continue
        wanted = "" if kind == "cgroup2" else "memory"
        root, place = PurePosixPath(mount[3]), Path(mount[4])
        for _, controllers, group in groups:
            if wanted in controllers.split(","):
                # A container may mount only its own part of the hierarchy, below `root`.
                inside = PurePosixPath(group)
                below = inside.relative_to(root) if inside.is_relative_to(root) else PurePosixPath()
                own = place / below
                found += [
                    pair
                    for folder in (own, *own.parents)
                    if folder.is_relative_to(place) and (pair := limit(folder, *FILES[kind]))
                ]
    return found


def limit(folder: Path, most: str, used: str, dropped: str) -> tuple[int, int] | None:
    """None for a group without a limit, which says "max" or, in version 1, a number past all memory."""
    try:
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        taken = int((folder / used).read_text()) - int(stat[dropped])
        return int((folder / most).read_text()), taken
    except (OSError, ValueError, KeyError):
        return None
