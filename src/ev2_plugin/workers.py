"""Independent jobs on several processes, none of which outlives this one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process, resource_tracker
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
        KeyboardInterrupt: On Ctrl-C, at once: jobs at work are ended too.
    """
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            yield job()
        return
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn"), initializer=_end_with_parent)
    others = set(active_children())
    try:
        with deaf_to_interrupts():  # processes inherit it: Ctrl-C, which all of a terminal get, is for this one to see
            futures = [pool.submit(job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
    except KeyboardInterrupt:
        for process in set(active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Keep SIGINT waiting, here and for good in processes that are started meanwhile."""
    resource_tracker.ensure_running()  # as it starts, with the first process otherwise, it lets SIGINT through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """End this process when its parent is killed; it would wait for jobs for ever."""
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
