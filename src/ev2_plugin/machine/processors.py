"""Processor cores that this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def usable_cores(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores by affinity and by the quota of the control group, at least one."""
    return max(min(len(os.sched_getaffinity(0)), *_quotas(root), 2**31), 1)


def _quotas(root: Path) -> Iterator[int]:
    """Cores that the time granted per period amounts to, rounded up; second version of control groups, then first."""
    yield from _quota(*_words(root / "cpu.max"))
    yield from _quota(*_words(root / "cpu/cpu.cfs_quota_us"), *_words(root / "cpu/cpu.cfs_period_us"))


def _quota(granted: str = "max", period: str = "") -> Iterator[int]:
    if granted.isdigit() and period.isdigit():
        yield math.ceil(int(granted) / int(period))


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:
        return []
