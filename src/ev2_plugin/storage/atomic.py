"""Writing a file so that no moment of power loss, kill or full disk leaves half of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write to; only when all is written and on disk does it take the name `path`.

    Whatever was at `path` stays as it was until then, and for good if writing fails.

    Args:
        path: In a folder that exists.

    Raises:
        OSError: If it cannot be written; a full disk is named as such, with what is free.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        # torch's writer stumbles over its unfinished file while an error of the disk is on its way
        of_disk = error.__context__ if isinstance(error, RuntimeError) else error
        if isinstance(of_disk, OSError):
            raise _with_advice(of_disk, path) from error
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder written to disk: a rename is lost with the power otherwise."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _with_advice(error: OSError, path: Path) -> OSError:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    status = os.statvfs(path.parent)
    free = status.f_bavail * status.f_frsize / 1e6
    return OSError(
        error.errno, f"no space left ({free:.0f} MB free, or the quota is used up); what was there is kept", str(path)
    )
