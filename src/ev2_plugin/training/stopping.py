"""Signals that ask a run to end: it does so after a whole step, with everything saved."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int | None
Handlers = dict[int, Handler]


_ONE_REQUEST = 1.0
"""Seconds: a terminal and the process that starts the ranks may both send a rank the same Ctrl-C."""


class Stopped(KeyboardInterrupt):
    """A run has ended because a signal asked for it; its message says where it is saved and how to go on.

    Attributes:
        signal: Which one.
    """

    def __init__(self, message: str, received: int) -> None:
        super().__init__(message)
        self.signal = signal.Signals(received)

    @property
    def exit_code(self) -> int:
        """What a shell reports for a process that this signal ended."""
        return 128 + self.signal


class StopSignals:
    """Notes that a signal has come, so that the run can end where it suits it.

    Attributes:
        received: The first signal; None before.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._since = 0.0

    @contextmanager
    def watched(self, signals: Iterable[signal.Signals]) -> Iterator[Handlers]:
        """Note these signals instead of what they did before; another SIGINT, a second later, ends the process at once.

        Yields:
            What handled each signal before, by number. Empty outside the main thread, where signals cannot be noted.
        """
        if threading.current_thread() is not threading.main_thread():
            yield {}
            return
        process = os.getpid()
        before: Handlers = {int(one): signal.getsignal(one) for one in signals}

        def note(number: int, frame: FrameType | None) -> None:
            if os.getpid() != process:
                return  # a worker of the data loader, forked with this handler: its parent decides
            if self.received is not None:
                if time.monotonic() > self._since + _ONE_REQUEST:
                    _hand_on(before[number], number, frame)
                return
            self.received, self._since = signal.Signals(number), time.monotonic()
            logging.warning(f"{self.received.name}: stopping after this step, with everything saved")

        for number in before:
            signal.signal(number, note)
        try:
            yield before
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _hand_on(
    handler: Callable[[int, FrameType | None], Any] | int | None, number: int, frame: FrameType | None
) -> None:
    """Somebody is impatient: a second Ctrl-C is taken at its word; other signals have been heard."""
    if number == signal.SIGINT and callable(handler):
        handler(number, frame)
