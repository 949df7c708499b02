"""What of a run's own predictions and relaxations a report can show without being told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ev2_plugin.report.record import read_config
from ev2_plugin.report.run_folder import Run, made_from


@dataclass(frozen=True)
class Predictions:
    """Predictions and what to set them beside.

    Attributes:
        file: `*_predictions.npz`.
        against: Dataset with the labels.
    """

    file: Path
    against: Path


@dataclass(frozen=True)
class Relaxations:
    """Relaxations and their trajectories.

    Attributes:
        folder: Where they were worked in, or trajectories lie.
        trajectories: Folder of `<id>.traj`, where it is another one.
        fmax: Force at which they were to end, eV/Å; None if unknown.
    """

    folder: Path
    trajectories: Path | None = None
    fmax: float | None = None


def predictions_of(run: Run) -> Predictions | None:
    """Find what was last predicted with a checkpoint of a run, if the predictions and the dataset are still there."""
    predicting = made_from(run, "predict")
    if predicting is None:
        return None
    files = sorted((run.directory / "results" / predicting.name).glob("*_predictions.npz"))
    source = (predicting.last.get("datasets") or {}).get("test", {}).get("src")
    if not files or source is None or not predicting.path(source).exists():
        return None
    return Predictions(files[0], predicting.path(source))


def relaxations_of(run: Run) -> Relaxations | None:
    """Find what was last relaxed with a checkpoint of a run, if it is still there."""
    relaxing = made_from(run, "run-relaxations")
    config = None if relaxing is None else read_config(relaxing)
    task = config.get("task") if config is not None else None
    if relaxing is None or not isinstance(task, Mapping):
        return None
    options: Mapping[str, Any] = task.get("relax_opt") or {}
    traj_dir = options.get("traj_dir")
    results = run.directory / "results" / relaxing.name
    asked = task.get("relaxations_dir")
    top = results if traj_dir is None else relaxing.path(traj_dir)
    folder = top / "relaxations" if asked is None else relaxing.path(asked)
    if not folder.is_dir():
        return None
    there = folder / "trajectories" if traj_dir is None else relaxing.path(traj_dir)
    return Relaxations(folder, there if there.is_dir() else None, task.get("relaxation_fmax"))
