"""Main memory that this process can still have, whoever sets the limit."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))  # cgroup v2 and v1


def free_main_memory() -> int | None:
    """Bytes that this process can still take; None if nobody says.

    The least of what the system has available, what the limits of the control groups leave (jobs of SLURM, containers)
    and what is left of the address space (`ulimit -v`).
    """
    return min((*available(), *left_in_groups(), *_left_in_address_space()), default=None)


def available() -> Iterator[int]:
    """Bytes that the system has for anybody."""
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            yield 1024 * int(line.split()[1])


def left_in_groups(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Bytes left of the limits of the groups that this process is in, and of those above them."""
    for line in _lines(membership):
        _, controllers, path = line.split(":", 2)
        base = root / "memory" if "memory" in controllers.split(",") else root
        if controllers and base == root:
            continue  # a hierarchy of something else
        inside = Path(path.lstrip("/"))
        for group in (inside, *inside.parents):
            yield from _left(base / group)


def _left(group: Path) -> Iterator[int]:
    for limit, usage in _FILES:
        most, used = _lines(group / limit), _lines(group / usage)
        if most and used and most[0].isdigit():
            yield max(int(most[0]) - int(used[0]) + _dropped_at_need(group), 0)


def _dropped_at_need(group: Path) -> int:
    """Pages of files, which count as used and go when memory is asked for."""
    rows = dict(line.split() for line in _lines(group / "memory.stat"))
    return int(rows.get("total_inactive_file", rows.get("inactive_file", 0)))


def _left_in_address_space() -> Iterator[int]:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _lines(Path("/proc/self/statm"))
    if limit != resource.RLIM_INFINITY and pages:
        yield max(limit - int(pages[0].split()[0]) * resource.getpagesize(), 0)


def _lines(path: Path) -> list[str]:
    """Of a file of the kernel's; none where it does not exist or must not be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
