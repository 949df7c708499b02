"""Where a run comes from: versions, commit, machine, scheduler, devices."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import subprocess
from pathlib import Path
from typing import Any

import torch

import ev2_plugin

_PACKAGES = ("fairchem-core", "e3nn", "numpy", "ase", "torch-geometric", "triton")
_SLURM = {
    "job_id": "SLURM_JOB_ID",
    "array_job_id": "SLURM_ARRAY_JOB_ID",
    "array_task_id": "SLURM_ARRAY_TASK_ID",
    "restart_count": "SLURM_RESTART_COUNT",
    "nodes": "SLURM_JOB_NODELIST",
    "partition": "SLURM_JOB_PARTITION",
}
_PATIENCE = 5  # seconds for git, which may sit on a slow file system


def versions() -> dict[str, str | None]:
    """Versions of what computes; None for what is not installed."""
    return {
        "ev2_plugin": ev2_plugin.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        **{name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit(sources: Path | None = None) -> dict[str, Any] | None:
    """Commit of the plugin and whether tracked files differ from it; None if it is no checkout or git is missing.

    Args:
        sources: The package's folder in `src/`; that of this package if None.
    """
    root = (sources or Path(ev2_plugin.__file__).parent).parents[1]
    if not (root / ".git").exists():
        return None
    head = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return None if head is None or changes is None else {"id": head, "changed": bool(changes)}


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_PATIENCE).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def slurm_job() -> dict[str, str] | None:
    """What SLURM says of the job; None outside of one."""
    found = {key: os.environ[variable] for key, variable in _SLURM.items() if variable in os.environ}
    return found if "job_id" in found else None


def place(device: torch.device) -> dict[str, str]:
    """Host and device of this process."""
    return {"host": socket.gethostname(), "device": _device_name(device)}


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return f"CPU: {line.partition(':')[2].strip()}, {torch.get_num_threads()} threads"
    return f"CPU: {platform.machine()}, {torch.get_num_threads()} threads"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
