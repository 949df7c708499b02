"""`run.json`: what was run, with which versions, where, and how it ended."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from fairchem.core.common import distutils

from ev2_plugin.integration import provenance
from ev2_plugin.integration.console import allow_warnings
from ev2_plugin.integration.run_loggers import RunLoggers, with_local_files
from ev2_plugin.storage.atomic import written_atomically
from ev2_plugin.storage.secrets import without_secrets
from ev2_plugin.training.stopping import Stopped

RECORD_NAME = "run.json"
FORMAT = 1

_OF_ONE_RUN = (
    *("timestamp_id", "identifier", "run_dir", "checkpoint", "print_every", "hide_eval_progressbar", "logger"),
    *("submit", "summit", "slurm", "local_rank", "timeout"),
)
"""Keys of a config that say which run it is and where, not what it computes."""


@contextmanager
def recorded(config: Mapping[str, Any], trainer: Any) -> Iterator[None]:
    """Record a run while it lasts: its metrics in local files beside its own logger, itself in `run.json`.

    Every process of a run comes here, rank 0 writes. A run that is started again adds an attempt to the file; an
    attempt that could not say how it ended was killed.

    Args:
        config: The run's config, as `build_run_config` returns it.
        trainer: The trainer that was made of it.
    """
    allow_warnings()
    places = distutils.gather_objects(provenance.place(trainer.device))
    if trainer.is_debug or not distutils.is_master():
        yield
        return
    record = RunRecord(Path(trainer.config["cmd"]["logs_dir"]), _attempt(config, trainer, places), config)
    loggers = trainer.logger = with_local_files(trainer, on_start=record.goes_on_at)
    try:
        yield
    except BaseException as error:
        _end(record, loggers, trainer, error)
        raise
    _end(record, loggers, trainer, None)


def _end(record: RunRecord, loggers: RunLoggers, trainer: Any, error: BaseException | None) -> None:
    try:
        if isinstance(error, Stopped):
            loggers.mark_preempting()  # the same run goes on
        loggers.close(failed=error is not None)
    finally:
        record.ends(error, step=trainer.step, epoch=float(trainer.epoch))


class RunRecord:
    """The file `run.json` of a run, and its config as YAML beside it.

    Args:
        folder: Of the run's logs; exists.
        attempt: What is known of this attempt at its start.
        config: Of the run.

    Raises:
        OSError: If the files cannot be written.
        ValueError: If there is a `run.json` that is not one of ours.
    """

    def __init__(self, folder: Path, attempt: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self.path = folder / RECORD_NAME
        plain = without_secrets(as_plain(config), os.environ)
        digest = config_digest(plain)
        config_file = f"config-{digest[:8]}.yml"
        with written_atomically(folder / config_file) as file:
            file.write(yaml.safe_dump(plain, sort_keys=False).encode())
        self._earlier = [_surely_ended(one) for one in _read_attempts(self.path)]
        told = without_secrets(as_plain(attempt), os.environ)
        self._attempt = {**told, "config_digest": digest, "config": config_file, "state": "running"}
        self._write()

    def goes_on_at(self, step: int) -> None:
        """Note the first step of training, if it is not that of a new run."""
        if step > 1:
            self._attempt["resumed_from_step"] = step - 1
            self._write()

    def ends(self, error: BaseException | None, *, step: int, epoch: float) -> None:
        """Note how the run ended.

        Args:
            error: What ended it before its end.
            step: Batches of training so far.
            epoch: Passes over the training set so far.
        """
        self._attempt |= {"state": _state(error), "ended": _now(), "step": step, "epoch": epoch}
        if error is not None:
            message = without_secrets(str(error), os.environ)
            self._attempt["error"] = {"class": type(error).__name__, "message": message}
        self._write()

    def _write(self) -> None:
        content = {"format": FORMAT, "attempts": [*self._earlier, self._attempt]}
        with written_atomically(self.path) as file:
            file.write(json.dumps(content, indent=2).encode() + b"\n")


def config_digest(config: Mapping[str, Any]) -> str:
    """SHA-256 of a config as canonical JSON, without the keys that say which run it is.

    Args:
        config: Plain values, as `as_plain` returns them.
    """
    kept = {key: value for key, value in config.items() if key not in _OF_ONE_RUN}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def as_plain(value: Any) -> Any:
    """A copy of nested values that JSON and YAML can hold: mappings, lists, texts, numbers, None."""
    if isinstance(value, Mapping):
        return {str(key): as_plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [as_plain(one) for one in value]
    for kind in (bool, int, float, str):  # of NumPy's, too
        if isinstance(value, kind):
            return kind(value)
    return None if value is None else str(value)


def _attempt(config: Mapping[str, Any], trainer: Any, places: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "started": _now(),
        "mode": config["mode"],
        "run": trainer.timestamp_id,
        "command": sys.argv,
        "folder": str(Path.cwd()),
        "process": os.getpid(),
        "seed": config.get("seed"),
        "checkpoint": config.get("checkpoint"),
        "ranks": len(places),
        "places": places,
        "slurm": provenance.slurm_job(),
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "datasets": _datasets(config, trainer),
    }


def _datasets(config: Mapping[str, Any], trainer: Any) -> dict[str, Any]:
    """Source and number of structures of every split; None where the run does not read it."""
    settings = config.get("dataset")
    splits = settings if isinstance(settings, Mapping) else {}
    return {
        split: {"src": one.get("src"), "structures": _length(getattr(trainer, f"{split}_dataset", None))}
        for split, one in splits.items()
        if one
    }


def _length(dataset: Any) -> int | None:
    return None if dataset is None else len(dataset)


def _read_attempts(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        read = json.loads(path.read_bytes())
        if read["format"] != FORMAT:
            raise ValueError(f"format {read['format']!r} instead of {FORMAT}")
        return read["attempts"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the record of a run ({error}); move it away") from error


def _surely_ended(attempt: dict[str, Any]) -> dict[str, Any]:
    return {**attempt, "state": "killed"} if attempt.get("state") == "running" else attempt


def _state(error: BaseException | None) -> str:
    if error is None:
        return "finished"
    return "failed" if isinstance(error, Exception) else "stopped"


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
