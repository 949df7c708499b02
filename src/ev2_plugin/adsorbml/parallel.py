"""One function on many arguments in several processes, none of which outlives this one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def run(function: Callable[[Argument], Result], arguments: Sequence[Argument], workers: int) -> Iterator[Result]:
    """Call a function with each argument.

    Args:
        function: For several processes, one that can be pickled; they import its module and no other.
        arguments: Likewise.
        workers: Processes; 1 works in this one.

    Yields:
        Results as they are ready.

    Raises:
        Exception: The first that the function raises; what has not begun is dropped.
    """
    if workers == 1 or len(arguments) < 2:
        yield from map(function, arguments)
        return
    processes = min(workers, len(arguments))
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        for future in as_completed([pool.submit(function, argument) for argument in arguments]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End this process when its parent is killed; it would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
