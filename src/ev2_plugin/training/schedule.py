"""Schedules: functions of the number of optimiser steps taken."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class CosineSchedule:
    """Learning rate, as a share of the largest one: linear warm-up, then a cosine.

    The cosine counts the warm-up's steps too, so it starts a little below 1. Source: official code (lr_scheduler.py).

    Attributes:
        warmup_steps: Length of the warm-up; 0 for none.
        total_steps: Length of the training.
        warmup_factor: Where the warm-up starts.
        min_factor: Where the cosine ends, and what holds after it.

    Raises:
        ValueError: If a length is negative or the warm-up longer than the training.
    """

    warmup_steps: int
    total_steps: int
    warmup_factor: float
    min_factor: float

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_steps <= self.total_steps:
            raise ValueError(
                f"the warm-up (scheduler_params.warmup_epochs) must take between 0 and all {self.total_steps} steps of "
                f"training, got {self.warmup_steps}"
            )

    def __call__(self, step: int) -> float:
        """The factor of step `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.warmup_factor + (1 - self.warmup_factor) * step / self.warmup_steps
        if step == self.warmup_steps > 0:
            return 1.0
        if step >= self.total_steps:
            return self.min_factor
        return self.min_factor + (1 - self.min_factor) / 2 * (1 + math.cos(math.pi * step / self.total_steps))


@dataclass(frozen=True)
class LinearDecay:
    """A loss coefficient that goes straight from `start` to `end` over the training.

    Source: paper, section D.5 (weight of the IS2RS loss: 15 to 1).

    Attributes:
        start: Coefficient of the first step.
        end: Coefficient after the last step.
        total_steps: Length of the training.
    """

    start: float
    end: float
    total_steps: int

    def __call__(self, step: int) -> float:
        """The coefficient of step `step`, counted from 0."""
        done = min(step / self.total_steps, 1.0)
        return self.start + (self.end - self.start) * done
