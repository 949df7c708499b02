"""What commands share in speaking to a terminal; like `typer` itself, light to import."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

Follow = Callable[[str, int, int], None]
"""Called with a stage, what is done of it and all of it."""

TrustOption = Annotated[
    bool, typer.Option("--trust", help="The files come from somebody I trust: execute what their pickles ask for.")
]


@contextmanager
def one_sentence_errors(*others: type[Exception]) -> Iterator[None]:
    """Print what is wrong with input, without a traceback, and end with status 1.

    Args:
        others: Errors that are of the input besides `ValueError`, `OSError`, `ImportError` and `MemoryError`.
    """
    of_input: tuple[type[Exception], ...] = (ImportError, MemoryError, OSError, ValueError, *others)
    try:
        yield
    except of_input as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


@contextmanager
def stoppable(what_is_kept: str = "stopped") -> Iterator[None]:
    """Let Ctrl-C end a command with one line instead of a traceback, and status 130.

    Args:
        what_is_kept: The line: what is kept and how to go on. A run that saved itself says so instead.
    """
    try:
        yield
    except KeyboardInterrupt as stopped:
        typer.echo(str(stopped) or what_is_kept, err=True)
        raise typer.Exit(getattr(stopped, "exit_code", 130)) from stopped


@contextmanager
def stage_bars() -> Iterator[Follow]:
    """Show a bar per stage on the standard error, with numbers and time left."""
    columns = (TextColumn("{task.description:13}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars: dict[str, TaskID] = {}

        def follow(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage)
            progress.update(bars[stage], completed=done, total=total)

        yield follow
