"""Independent jobs on several processes, none of which outlives this one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import TypeVar

Result = TypeVar("Result")


def run_jobs(jobs: Sequence[Callable[[], Result]], workers: int) -> Iterator[Result]:
    """Run jobs.

    Args:
        jobs: Functions without arguments; for several processes, such that can be pickled.
        workers: Processes; 1 works in this one.

    Yields:
        Results as they are ready.

    Raises:
        Exception: The first that a job raises; jobs that have not begun are dropped.
    """
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            yield job()
        return
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        for future in as_completed([pool.submit(job) for job in jobs]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End this process when its parent is killed; it would wait for jobs for ever."""
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
