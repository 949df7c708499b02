"""Steps, epochs and learning rates of a run, by arithmetic: also for more processes than there are here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ev2_plugin.integration.check.optim import planned_batches
from ev2_plugin.integration.known_keys import names_our_trainer
from ev2_plugin.training.batch_plan import BatchPlan
from ev2_plugin.training.schedule import CosineSchedule


@dataclass(frozen=True)
class TrainingPlan:
    """What a run would do.

    Attributes:
        batches: Structures of an optimiser step and where they come from.
        structures: In the training split.
        epochs: Passes over them.
        peak_rate: Largest learning rate (`lr_initial`).
        schedule: Factor of each optimiser step for a warm-up and a cosine; otherwise the scheduler's name.
    """

    batches: BatchPlan
    structures: int
    epochs: int
    peak_rate: float
    schedule: CosineSchedule | str

    @property
    def batches_per_epoch(self) -> int:
        """Batches of each process; the sampler fills up what does not divide."""
        return math.ceil(self.structures / (self.batches.ranks * self.batches.batch_size))

    @property
    def steps_per_epoch(self) -> float:
        """Optimiser steps; a step may reach into the next epoch."""
        return self.batches_per_epoch / self.batches.accumulation

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole training."""
        return max(math.ceil(self.batches_per_epoch * self.epochs / self.batches.accumulation), 1)

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        return {
            **asdict(self.batches),
            "global_batch_size": self.batches.global_batch_size,
            "epochs": self.epochs,
            "steps_per_epoch": self.steps_per_epoch,
            "total_steps": self.total_steps,
            "peak_rate": self.peak_rate,
            "schedule": self.schedule if isinstance(self.schedule, str) else asdict(self.schedule),
        }


def plan_training(config: Mapping[str, Any], structures: int) -> TrainingPlan:
    """Work out steps and learning rates as the trainers do.

    Args:
        config: The run's config; `world_size` is the number of processes.
        structures: In the training split.

    Raises:
        ValueError: If the warm-up is longer than the training, or has no step in a trainer of the host, which then
            divides by zero.
    """
    optim = config["optim"]
    params = optim.get("scheduler_params") or {}
    scheduler = optim.get("scheduler") or "the host's warm-up by steps"
    plan = TrainingPlan(planned_batches(config), structures, optim["max_epochs"], float(optim["lr_initial"]), scheduler)
    if params.get("lambda_type") != "cosine":
        return plan
    warmup = int(params["warmup_epochs"] * plan.steps_per_epoch)
    if warmup == 0 and not names_our_trainer(config):
        raise ValueError(no_warm_up(config))
    cosine = CosineSchedule(warmup, plan.total_steps, params["warmup_factor"], params["lr_min_factor"])
    return TrainingPlan(plan.batches, structures, plan.epochs, plan.peak_rate, cosine)


def no_warm_up(config: Mapping[str, Any]) -> str:
    """What to say where a trainer of the host divides by a warm-up of no steps."""
    return (
        f"optim.scheduler_params.warmup_epochs {config['optim']['scheduler_params']['warmup_epochs']} is less than a "
        f"step, and trainer {config['trainer']!r} divides by it: make it longer, or use ev2_plugin.Trainer"
    )
