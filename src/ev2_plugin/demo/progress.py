"""Progress of the demo's stages on the terminal, from what the host says."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ev2_plugin.data.training_log import parse_metrics

_RELAXED = re.compile(r"^relax: (\d+) of \d+ structures")


@dataclass(frozen=True)
class Bar:
    """A progress bar while it is shown.

    Attributes:
        advance: Counts one more.
        reach: Sets the count.
        say: Prints a line above the bar.
    """

    advance: Callable[[], None]
    reach: Callable[[int], None]
    say: Callable[[str], None]


@contextmanager
def progress_bar(console: Console, what: str, total: int) -> Iterator[Bar]:
    """Show a bar that is full when the block is left without an error.

    Args:
        console: Where to show it.
        what: What is going on.
        total: The count at the end.
    """
    columns = (TextColumn("{task.description:34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=total)
        yield Bar(
            advance=lambda: progress.advance(task),
            reach=lambda count: progress.update(task, completed=count),
            say=progress.console.print,
        )
        progress.update(task, completed=total)


def terminal_console() -> Console:
    """A console that stays with the standard output of now, while a run of the host sends its own to a log."""
    return Console(file=sys.stdout)


def training_follower(bar: Bar) -> Callable[[str], None]:
    """Move a bar by the steps of a training run, and print each validation.

    Args:
        bar: Counts steps.

    Returns:
        A function of the host's messages.
    """

    def follow(message: str) -> None:
        metrics = parse_metrics(message)
        if metrics is None:
            return
        if "step" in metrics:
            bar.reach(int(metrics["step"]))
        else:
            bar.say(
                f"epoch {metrics['epoch']:2.0f}: validation errors {metrics['energy_mae']:.3f} eV, "
                f"{metrics['forces_mae']:.3f} eV/Å"
            )

    return follow


def relaxation_follower(bar: Bar) -> Callable[[str], None]:
    """Move a bar by the structures that are relaxed.

    Args:
        bar: Counts structures.

    Returns:
        A function of the host's messages.
    """

    def follow(message: str) -> None:
        match = _RELAXED.match(message)
        if match:
            bar.reach(int(match[1]))

    return follow
