"""Training runs of the packaged recipes through the host, with every step's metrics at full precision."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ev2_plugin.integration.host_run import run_host
from ev2_plugin.integration.local_logger import LOG_NAME
from ev2_plugin.storage.metrics_log import read_entries


@dataclass(frozen=True)
class Curve:
    """One metric along a run.

    Attributes:
        steps: Where it was logged.
        values: Its values there.
    """

    steps: list[int]
    values: list[float]

    def thinned(self, most: int = 200) -> Curve:
        """Every n-th point and the last, at most `most` of them."""
        stride = max(-(-len(self.steps) // (most - 1)), 1)
        chosen = sorted({*range(0, len(self.steps), stride), len(self.steps) - 1})
        return Curve([self.steps[i] for i in chosen], [self.values[i] for i in chosen])


@dataclass(frozen=True)
class TrainingLog:
    """What a run logged.

    Attributes:
        lines: Split, step, time [s] and metrics of everything it logged.
    """

    lines: Sequence[Mapping[str, Any]]

    def curve(self, split: str, metric: str) -> Curve:
        """One metric of `train` (of each batch) or `val` (of each validation)."""
        found = [line for line in self.lines if line["split"] == split and metric in line]
        if not found:
            raise ValueError(f"the run logged no {metric!r} of {split!r}")
        return Curve([line["step"] for line in found], [line[metric] for line in found])

    def seconds_per_step(self) -> float:
        """Median time from one training step to the next."""
        times = [line["time"] for line in self.lines if line["split"] == "train" and "loss" in line]
        return statistics.median(later - earlier for earlier, later in zip(times, times[1:], strict=False))


def short_training(structures: int, batch_size: int, steps: int, validations: int = 20) -> dict[str, Any]:
    """What every run here changes in the training of its recipe.

    Fewer and smaller steps at a higher learning rate, in float32; the schedule's shape, the loss, the optimiser, weight
    decay and clipping stay. No averaged weights: an average over the recipe's 1000 steps would be of the whole run.

    Args:
        structures: In the training set.
        batch_size: Structures per step.
        steps: Optimiser steps, about: whole epochs are run.
        validations: How many, about; the last one at the end.
    """
    steps_per_epoch = max(structures // batch_size, 1)
    epochs = max(steps // steps_per_epoch, 1)
    return {
        "logger": "local",
        "optim": {
            "batch_size": batch_size,
            "global_batch_size": batch_size,
            "eval_batch_size": 4 * batch_size,
            "num_workers": 0,
            "precision": "fp32",
            "lr_initial": 0.002,
            "max_epochs": epochs,
            "scheduler_params": {"warmup_epochs": 0.05 * epochs},
            "ema_decay": None,
            "eval_every": max(epochs // validations, 1) * steps_per_epoch,
        },
    }


def write_recipe(path: Path, recipe: str, changes: Mapping[str, Any]) -> None:
    """Write a run file: a packaged recipe and what is different here."""
    path.write_text(yaml.safe_dump({"includes": [recipe], **changes}, sort_keys=False), encoding="utf-8")


def train(config: Path, name: str, *, seed: int, checkpoint: Path | None = None) -> TrainingLog:
    """Train on the CPU by a run file whose logger is `local`.

    Args:
        config: The run file; everything that the run writes lies beside it.
        name: Of the run, new in this folder.
        seed: Of weights, data order and noise.
        checkpoint: Weights to start from.
    """
    folder = config.parent
    start = () if checkpoint is None else ("--checkpoint", str(checkpoint))
    run_host(
        [
            *("--mode", "train", "--config-yml", str(config), "--cpu", "--run-dir", str(folder)),
            *("--timestamp-id", name, "--seed", str(seed), "--print-every", "1", "--hide_eval_progressbar=True"),
            *start,
        ],
        folder / f"{name}.log",
    )
    (log,) = folder.glob(f"logs/*/{name}/{LOG_NAME}")
    return TrainingLog(
        [{"split": one.split, "step": one.step, "time": one.time, **one.values} for one in read_entries(log)]
    )


def new_folder(root: Path, stem: str) -> Path:
    """Make a folder that no other run has, for the host would resume what it finds in an old one."""
    folder = root / time.strftime(f"{stem}-%Y-%m-%d-%H-%M-%S")
    folder.mkdir(parents=True)
    return folder
