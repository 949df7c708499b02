"""Findings on disk, memory, shared memory and cores."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from pathlib import Path

from ev2_plugin.doctor.finding import Finding
from ev2_plugin.machine.memory import free_main_memory
from ev2_plugin.machine.processors import usable_cores

_GB = 10**9
_LITTLE_DISK = 5 * _GB
"""A checkpoint of the 153M model with its optimiser is 2.5 GB, and two are there while one takes the other's place."""
_LITTLE_MEMORY = 6 * _GB
"""A training step of the 31M model with one slab takes 5 GB on a CPU; predictions take less."""
_LITTLE_SHARED = _GB
"""Containers have 64 MB by default, which two workers of a loader fill."""
_TRIED_BYTES = 2**20


def disk_finding(folder: Path) -> Finding:
    """Whether runs can write in a folder, and how much.

    Args:
        folder: Where `checkpoints/` and `results/` would go.
    """
    try:
        _write_in(folder)
    except OSError as error:
        return _unwritable("disk", folder, error, "cd ~")
    free = shutil.disk_usage(folder).free
    said = f"{free / _GB:.1f} GB free in {folder}"
    if free < _LITTLE_DISK:
        mend = f"du -xh --max-depth=2 {shlex.quote(str(folder))} | sort -h | tail"
        return Finding(name="disk", found=f"{said}, which a few checkpoints fill", severity="warning", mend=mend)
    return Finding(name="disk", found=said)


def temporary_finding() -> Finding:
    """Whether there is a folder for temporary files, which compilers and loaders write to."""
    folder = Path(os.environ.get("TMPDIR") or "/tmp")
    try:
        _write_in(folder)
    except OSError as error:
        return _unwritable("temporary files", folder, error, 'export TMPDIR="$HOME/tmp" && mkdir -p "$TMPDIR"')
    return Finding(name="temporary files", found=f"{shutil.disk_usage(folder).free / _GB:.1f} GB free in {folder}")


def shared_memory_finding(folder: Path = Path("/dev/shm")) -> Finding:
    """Where workers of a loader leave batches for the run."""
    try:
        _write_in(folder)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return _unwritable("shared memory", folder, error, f"sudo mount -t tmpfs -o size=8G,mode=1777 tmpfs {folder}")
    said = f"{free / _GB:.1f} GB free in {folder}"
    if free < _LITTLE_SHARED:
        return Finding(
            name="shared memory",
            found=f"{said}: workers of a loader (optim.num_workers) may die with a bus error. In a container, start it "
            "with --shm-size=8g",
            severity="warning",
            mend=f"sudo mount -o remount,size=8G {folder}",
        )
    return Finding(name="shared memory", found=said)


def memory_finding() -> Finding:
    """What this process can still take, whoever sets the limit."""
    free = free_main_memory()
    if free is None:
        return Finding(name="memory", found="this system does not tell")
    said = f"{free / _GB:.1f} GB free, within the limits of this process"
    if free < _LITTLE_MEMORY:
        return Finding(
            name="memory",
            found=f"{said}; a training step of the 31M model takes 5 GB on a CPU; `ev2 estimate` counts for a run",
            severity="warning",
            mend="ev2 estimate --help",
        )
    return Finding(name="memory", found=said)


def threads_finding() -> Finding:
    """Threads of PyTorch on the CPU beside the cores that it has."""
    cores, wanted = usable_cores(), os.environ.get("OMP_NUM_THREADS")
    mend = f"export OMP_NUM_THREADS={cores}"
    counted = len(os.sched_getaffinity(0))
    if wanted is None and cores < counted:
        said = f"the container grants {cores} of {counted} cores, and torch starts {counted} threads"
        return Finding(name="threads", found=said, severity="warning", mend=mend)
    if wanted is None:
        return Finding(name="threads", found=f"as many as cores: {cores}")
    if not wanted.isdigit() or wanted == "0":
        said = f"OMP_NUM_THREADS is {wanted!r}, which is no number of threads"
        return Finding(name="threads", found=said, severity="warning", mend=mend)
    if int(wanted) > cores:
        said = f"OMP_NUM_THREADS is {wanted}, on {cores} usable cores: threads wait for each other"
        return Finding(name="threads", found=said, severity="warning", mend=mend)
    return Finding(name="threads", found=f"OMP_NUM_THREADS is {wanted}, of {cores} usable cores")


def _write_in(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_TRIED_BYTES))
        file.flush()
        os.fsync(file.fileno())


def _unwritable(name: str, folder: Path, error: OSError, mend: str) -> Finding:
    return Finding(name=name, found=f"cannot write in {folder}: {error.strerror}", severity="error", mend=mend)
