"""What commands share in speaking to a terminal; like `typer` itself, light to import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from ev2_plugin.cli.exit_codes import ERROR, STOPPED

TrustOption = Annotated[
    bool, typer.Option("--trust", help="The files come from somebody I trust: execute what their pickles ask for.")
]


@contextmanager
def one_sentence_errors(*others: type[Exception], about: object = None) -> Iterator[None]:
    """Print what is wrong with input, without a traceback, and end with status 1.

    Args:
        others: Errors that are of the input besides `ValueError`, `OSError`, `ImportError` and `MemoryError`.
        about: What the errors are about, if they do not say so themselves.
    """
    of_input: tuple[type[Exception], ...] = (ImportError, MemoryError, OSError, ValueError, *others)
    try:
        yield
    except of_input as error:
        typer.echo(f"error: {'' if about is None else f'{about}: '}{sentence(error)}", err=True)
        raise typer.Exit(ERROR) from error


def sentence(error: Exception) -> str:
    """What an error says: that of a system call without its number, one without a message by its name."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return str(error) or type(error).__name__


@contextmanager
def stoppable(what_is_kept: str = "stopped") -> Iterator[None]:
    """Let Ctrl-C end a command with one line instead of a traceback, and status 130.

    All commands have this; one uses it itself to say what it keeps.

    Args:
        what_is_kept: The line: what is kept and how to go on. A run that saved itself says so instead.
    """
    try:
        yield
    except KeyboardInterrupt as stopped:
        typer.echo(str(stopped) or what_is_kept, err=True)
        raise typer.Exit(getattr(stopped, "exit_code", STOPPED)) from stopped
