"""How far relaxations are: a bar on a terminal, now and then a line in a log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ev2_plugin.relax.folder import Progress as Reached

SOONEST, LATEST = 2.0, 30.0
"""Seconds between two lines of a log: half of the time passed, but neither less nor more than this."""


class ProgressLog:
    """Lines with structures per second and the time left.

    Args:
        say: Takes each line; the last structure always has one.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last: float | None = None

    def __call__(self, reached: Reached) -> None:
        """Say how far it is, unless that was said a moment ago."""
        before = reached.done - reached.here
        if self._last is None:
            self._last = 0.0
            if before:
                self._say(f"{before} of {reached.total} structures were relaxed before")
        gap = min(max(reached.seconds / 2, SOONEST), LATEST)
        if reached.seconds - self._last < gap and reached.done < reached.total:
            return
        self._last = reached.seconds
        self._say(f"relaxed {reached.done} of {reached.total} structures, {pace(reached)}")


def pace(reached: Reached) -> str:
    """Structures in work, structures per second and the time that the rest takes."""
    left, speed = reached.total - reached.done, reached.structures_per_second
    parts = [f"{reached.active} in work"] if left else []
    if speed:
        parts.append(f"{speed:.3g} structures/s")
    if speed and left:
        parts.append(f"{duration(left / speed)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextmanager
def relaxation_progress(say: Callable[[str], None] = logging.info) -> Iterator[Callable[[Reached], None]]:
    """A function that shows how far relaxations are; `say` takes lines where there is no terminal."""
    if not sys.stderr.isatty():
        yield ProgressLog(say)
        return
    columns = (TextColumn("relax"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("relax", pace="", total=None)
        yield lambda reached: progress.update(task, completed=reached.done, total=reached.total, pace=pace(reached))
