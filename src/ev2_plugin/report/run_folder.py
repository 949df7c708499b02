"""Where a run keeps what a report shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ev2_plugin.storage.plain_files import read_json

METRICS_FILE, RECORD_FILE = "metrics.jsonl", "run.json"


@dataclass(frozen=True)
class Run:
    """A run of the launcher, by its folder of logs.

    Attributes:
        logs: `logs/LOGGER/TIMESTAMP-ID` in the run directory.
        attempts: What `run.json` says, oldest first; empty without such a file.
    """

    logs: Path
    attempts: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        """Its timestamp id."""
        return self.logs.name

    @property
    def directory(self) -> Path:
        """The run directory, which also holds checkpoints and results."""
        return self.logs.parents[2]

    @property
    def last(self) -> Mapping[str, Any]:
        """The newest attempt; empty if nothing was recorded."""
        return self.attempts[-1] if self.attempts else {}

    @property
    def mode(self) -> str:
        """`train`, `predict`, ...; a run without a record trained."""
        return str(self.last.get("mode", "train"))

    @property
    def metrics(self) -> Path:
        """The file of metrics, which may not exist."""
        return self.logs / METRICS_FILE

    def path(self, written: str) -> Path:
        """A path as the run's config has it, seen from here: relative ones start where the command was given."""
        return Path(self.last.get("folder", ".")) / written


def find_run(path: Path) -> Run:
    """Find the run that somebody means.

    Args:
        path: A run's folder of logs or of checkpoints, a file in one of them, or a run directory: then the training
            that was logged last, or the last run of another mode if it holds no training.

    Raises:
        FileNotFoundError: If there is no such path.
        ValueError: If it holds nothing of a run, or a record is damaged.
    """
    path = path.absolute()
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    folder = path if path.is_dir() else path.parent
    if _is_log(folder):
        return _read(folder)
    beside = folder.parents[1] if folder.parent.name == "checkpoints" else None
    found = list(_runs(beside, folder.name) if beside is not None else _runs(folder))
    if not found:
        raise ValueError(
            f"{path} holds no run: neither {METRICS_FILE} nor {RECORD_FILE}, nor logs/*/*/ with them; give a run "
            "directory, or a folder of logs or checkpoints in one"
        )
    return max(found, key=lambda run: (run.mode == "train", _last_change(run)))


def made_from(run: Run, mode: str) -> Run | None:
    """Find the newest run of a mode that used a checkpoint of a training; the run itself, if it is of that mode.

    Args:
        run: The training.
        mode: Such as `predict`.
    """
    if run.mode == mode:
        return run
    found = [
        other
        for other in _runs(run.directory)
        if other.mode == mode and Path(str(other.last.get("checkpoint"))).parent.name == run.name
    ]
    return max(found, key=_last_change, default=None)


def _runs(directory: Path, name: str = "*") -> Iterator[Run]:
    for folder in sorted(directory.glob(f"logs/*/{name}")):
        if _is_log(folder):
            yield _read(folder)


def _is_log(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (METRICS_FILE, RECORD_FILE)) and len(folder.parents) > 2


def _last_change(run: Run) -> float:
    return max((run.logs / name).stat().st_mtime for name in (METRICS_FILE, RECORD_FILE) if (run.logs / name).exists())


def _read(folder: Path) -> Run:
    record = folder / RECORD_FILE
    if not record.exists():
        return Run(folder, ())
    content = read_json(record)
    attempts = content.get("attempts") if isinstance(content, dict) else None
    if not isinstance(attempts, list) or not all(isinstance(one, dict) for one in attempts):
        raise ValueError(f"{record} is not the record of a run")
    return Run(folder, tuple(attempts))
