"""Run the host in this process, its many words going to a log file instead of the terminal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO


def run_host(
    arguments: Sequence[str], log_file: Path, on_message: Callable[[str], None] = lambda message: None
) -> list[str]:
    """Run `ev2 fairchem ARGUMENTS` and follow what it says.

    Args:
        arguments: The host's flags.
        log_file: Where everything it logs and prints is appended; its folder must exist.
        on_message: Called with every message, for showing progress.

    Returns:
        All messages, without time and place.

    Raises:
        Exception: Whatever the run raised, with a note that names the log file.
    """
    from ev2_plugin.integration.launcher import main

    messages: list[str] = []

    def follow(message: str) -> None:
        messages.append(message)
        on_message(message)

    with log_file.open("a", encoding="utf-8") as stream:
        stream.write(f"$ ev2 fairchem {' '.join(arguments)}\n")
        with _logging_to(stream, follow), redirect_stdout(stream), redirect_stderr(stream):
            try:
                main(list(arguments))
            except BaseException as error:
                error.add_note(f"the run's log: {log_file}")
                raise
    return messages


class _Follower(logging.Handler):
    def __init__(self, follow: Callable[[str], None]) -> None:
        super().__init__()
        self.follow = follow

    def emit(self, record: logging.LogRecord) -> None:
        self.follow(record.getMessage())


@contextmanager
def _logging_to(stream: TextIO, follow: Callable[[str], None]) -> Iterator[None]:
    """Put the root logger's handlers aside; the host adds its own only where there are none."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    file_handler = logging.StreamHandler(stream)
    file_handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root.handlers[:] = [file_handler, _Follower(follow)]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)
