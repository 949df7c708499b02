"""The demo's run as the host reads it: one YAML file that includes `demo/s2ef.yml` and adds what the data say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ev2_plugin.data.metadata import read_metadata
from ev2_plugin.data.statistics import TargetStatistics
from ev2_plugin.demo.dataset import SPLITS, DatasetFolder

BASE_CONFIG = Path("demo/s2ef.yml")


@dataclass(frozen=True)
class BaseSettings:
    """What the demo needs to know of its base configuration.

    Attributes:
        cutoff: Largest length of an edge [Å].
        max_neighbors: Most edges that one atom receives.
        batch_size: Structures per step.
        epochs: Passes over the training frames.
        relaxation_steps: Most steps of a relaxation.
        relaxation_fmax: Largest predicted force on a free atom of a relaxed structure [eV/Å].
    """

    cutoff: float
    max_neighbors: int
    batch_size: int
    epochs: int
    relaxation_steps: int
    relaxation_fmax: float


def read_base_settings() -> BaseSettings:
    """Read the settings that the demo shares with its configuration, from that configuration."""
    from ev2_plugin.integration.run_config import find_config, load_config

    config, _ = load_config(find_config(BASE_CONFIG))
    return BaseSettings(
        cutoff=config["model"]["max_radius"],
        max_neighbors=config["model"]["max_neighbors"],
        batch_size=config["optim"]["batch_size"],
        epochs=config["optim"]["max_epochs"],
        relaxation_steps=config["task"]["relaxation_steps"],
        relaxation_fmax=config["task"]["relaxation_fmax"],
    )


def write_run_config(
    path: Path,
    dataset: DatasetFolder,
    statistics: TargetStatistics,
    *,
    trajectories: Path,
    epochs: int,
    relaxation_steps: int,
    relaxation_fmax: float,
) -> None:
    """Write the configuration of a run.

    Args:
        path: File to write.
        dataset: Folder of the LMDBs.
        statistics: Of the training labels; they normalise the targets.
        trajectories: Folder for the relaxations' trajectories.
        epochs: Passes over the training frames.
        relaxation_steps: Most steps of a relaxation.
        relaxation_fmax: Largest predicted force on a free atom at which a relaxation ends [eV/Å].
    """
    sizes = read_metadata(dataset.s2ef("train").parent)
    data: dict[str, Any] = {split: {"src": str(dataset.s2ef(split).parent.resolve())} for split in SPLITS}
    data["train"]["transforms"] = {"normalizer": statistics.normalizers()}
    # The host predicts the test set after each validation that is the best so far, if it is given one here.
    del data["test"]
    config = {
        "includes": [str(BASE_CONFIG)],
        "dataset": data,
        "model": {"avg_degree": sizes.mean_degree},
        "optim": {"max_epochs": epochs},
        "task": {
            "relaxation_steps": relaxation_steps,
            "relaxation_fmax": relaxation_fmax,
            "relax_opt": {"traj_dir": str(trajectories.resolve())},
        },
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
