"""How far long work is: a bar per stage on a terminal, now and then a line where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskID, TextColumn

Follow = Callable[[str, int, int], None]
"""Called with a stage, what is done of it and all of it."""

Show = Callable[[str, int, int, str], None]
"""Called with a stage, what is done of it, all of it, and that in words, with the pace and the time left."""

SOONEST, LATEST = 2.0, 30.0
"""Seconds between two lines: half of the stage's time, but neither less nor more than this."""


def print_line(line: str) -> None:
    """Print on the standard error."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def show_progress(
    unit: str = "structures", *, in_bytes: Collection[str] = (), say: Callable[[str], None] = print_line
) -> Iterator[Follow]:
    """Show stages with amount, rate and time left on the standard error.

    Args:
        unit: What is counted.
        in_bytes: Stages that count bytes instead.
        say: Takes lines where the standard error is no terminal; a stage's end always has one.
    """
    pace = Pace(unit, in_bytes)
    with stages_shown(say) as show:
        yield lambda stage, done, total: show(stage, done, total, pace(stage, done, total))


@contextmanager
def stages_shown(say: Callable[[str], None] = print_line) -> Iterator[Show]:
    """Show stages whose caller says the pace itself; `say` as for `show_progress`."""
    if not sys.stderr.isatty():
        yield Lines(say)
        return
    columns = (TextColumn("{task.description:10}"), BarColumn(), TextColumn("{task.fields[words]}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int, words: str) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, words="")
            progress.update(bars[stage], completed=done, total=total, words=words)

        yield show


class Lines:
    """Lines of a log, the fewer the longer a stage takes.

    Args:
        say: Takes each line.
        clock: Seconds.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._started: dict[str, float] = {}
        self._said: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int, words: str) -> None:
        """Say how far it is, unless that was said a moment ago."""
        now = self._clock()
        started = self._started.setdefault(stage, now)
        gap = min(max((now - started) / 2, SOONEST), LATEST)
        if now - self._said.setdefault(stage, started) < gap and done < total:
            return
        self._said[stage] = now
        self._say(f"{stage}: {words}")


class Pace:
    """Amount, rate and time left of each stage, the rate since it was first heard of.

    Args:
        unit: What is counted.
        in_bytes: Stages that count bytes instead.
        clock: Seconds.
    """

    def __init__(self, unit: str, in_bytes: Collection[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._unit, self._in_bytes, self._clock = unit, in_bytes, clock
        self._first: dict[str, tuple[float, int]] = {}

    def __call__(self, stage: str, done: int, total: int) -> str:
        """Say it like `12 of 40 structures, 3.1 structures/s, 9 s left`."""
        started, before = self._first.setdefault(stage, (self._clock(), done))
        seconds = self._clock() - started
        speed = (done - before) / seconds if seconds > 0 else 0.0
        if stage in self._in_bytes:
            return ", ".join([f"{decimal(done)} of {decimal(total)}", *rate(speed, total - done, in_bytes=True)])
        return ", ".join([f"{done} of {total} {self._unit}", *rate(speed, total - done, self._unit)])


def rate(speed: float, left: int, unit: str = "", *, in_bytes: bool = False) -> list[str]:
    """The words for a speed (per second) and for the time that the rest takes; none before there is a speed."""
    if speed <= 0:
        return []
    if in_bytes:
        words = f"{decimal(round(speed))}/s"
    else:
        words = f"{speed:.3g} {unit}/s" if speed >= 0.1 else f"{duration(1 / speed)} each"
    return [words, f"{duration(left / speed)} left"] if left > 0 else [words]


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
