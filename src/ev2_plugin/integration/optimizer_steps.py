"""From batches to optimiser steps: accumulation, clipping, averaged weights, and steps that must not be taken."""

from __future__ import annotations

import logging
import math
from functools import cached_property
from typing import Any, TypeVar

import torch
from fairchem.core.common import distutils
from fairchem.core.modules.scheduler import LRScheduler
from fairchem.core.trainers import OCPTrainer
from torch import Tensor, nn

from ev2_plugin.integration.rank_groups import data_ranks, shares_batches
from ev2_plugin.training.batch_plan import check_count, plan_batches
from ev2_plugin.training.non_finite import NOWHERE, SkippedSteps, first_non_finite_module
from ev2_plugin.training.stopping import StopSignals

MAX_NON_FINITE_STEPS = 10
T = TypeVar("T")


class OptimizerSteps(OCPTrainer):
    """fairchem's trainer with steps of several batches, and without steps on non-finite numbers."""

    model: nn.Module
    step: int
    best_val_metric: float | None
    last_batch: Any = None
    asked_to_stop = 0

    @cached_property
    def stop_signals(self) -> StopSignals:
        """Where signals that ask this process to stop are noted."""
        return StopSignals()

    def count_steps(self) -> None:
        """Read how many batches make a step; what the host counts in batches is given to it in batches.

        Raises:
            ValueError: If a number is no positive integer.
        """
        optim = self.config["optim"] = dict(self.config["optim"])
        limit = optim.get("max_non_finite_steps", MAX_NON_FINITE_STEPS)
        check_count("max_non_finite_steps", limit)
        self.skipped = SkippedSteps(limit)
        self.batches = plan_batches(optim, data_ranks())
        accumulation = self.batches.accumulation
        batches_per_epoch = len(self.train_loader) if self.train_loader is not None else 0
        self.steps_per_epoch = batches_per_epoch / accumulation
        if self.train_loader is not None:
            check_count("max_epochs", optim.get("max_epochs"))
        self.total_batches = batches_per_epoch * optim.get("max_epochs", 0)
        self.total_steps = max(math.ceil(self.total_batches / accumulation), 1)
        for name in ("eval_every", "checkpoint_every"):
            every = optim.pop(name, None)
            if every == -1 and name == "checkpoint_every":
                optim[name] = -1  # at the end of every epoch
            elif every is not None:
                check_count(name, every)
                optim[name] = every * accumulation
        optim.setdefault("eval_every", max(math.ceil(self.steps_per_epoch), 1) * accumulation)

    def ends_step(self) -> bool:
        """Whether the present batch is the last of its step."""
        return self.step % self.batches.accumulation == 0 or self.step == self.total_batches

    def repeat_unfinished_step(self) -> None:
        """Go back to the start of a step that a checkpoint cuts through: it has no gradients of the first batches."""
        if not self.ends_step():
            self.step -= self.step % self.batches.accumulation

    def _backward(self, loss: Tensor) -> None:
        """Backward pass of one batch; the step itself where the batch ends it."""
        if (self.step - 1) % self.batches.accumulation == 0:
            self.optimizer.zero_grad()
            self.broken: list[str] | None = None  # samples without a finite loss, if this step has any
        non_finite, self.asked_to_stop = self.agree(not torch.isfinite(loss))
        if non_finite:
            own = [] if torch.isfinite(loss) else sample_ids(self.last_batch)
            self.broken = [*(self.broken or []), *own]
        if self.broken is None:
            (loss / self.batches.accumulation).backward()
        if self.ends_step():
            self._end_step()

    def agree(self, non_finite: bool) -> tuple[bool, int]:
        """What one process meets, all must know: they skip a step, or stop after it, together.

        Args:
            non_finite: Whether this process has a loss that is not finite.

        Returns:
            Whether any has, and the number of a signal that any was sent (0 for none).
        """
        received = int(self.stop_signals.received or 0)
        if not distutils.initialized():
            return bool(non_finite), received
        worst = torch.tensor([int(non_finite), received], device=self.device)
        torch.distributed.all_reduce(worst, op=torch.distributed.ReduceOp.MAX)
        somewhere, signal = worst.tolist()
        return bool(somewhere), signal

    def _end_step(self) -> None:
        if self.broken is not None:
            self._skip("loss", self.broken)
            return
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad_norm or math.inf)
        if self.logger is not None:
            self.logger.log({"grad_norm": norm}, step=self.step, split="train")
        if torch.isfinite(norm):
            self._take_step()
            return
        overflow = self.scaler and self.scaler.get_scale() > 1  # nothing is wrong yet
        if self.scaler:
            self.scaler.update()  # halves the scale of the gradients
        if not overflow:
            self._skip("gradient", sample_ids(self.last_batch))

    def _take_step(self) -> None:
        if self.scaler:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        if self.ema:
            self.ema.update()
        self.scheduler.advance()
        self.skipped.take()

    def _skip(self, what: str, samples: list[str]) -> None:
        """Leave a step out; end the run after too many.

        Raises:
            FloatingPointError: With the first module that gave a non-finite value.
        """
        too_many, ids = self.skipped.skip(), ", ".join(of_all_processes(samples))
        self.optimizer.zero_grad()
        if distutils.is_master():
            logging.warning(
                f"step {self.step} skipped: its {what} is not finite; samples {ids}; {self.skipped.total} skipped so "
                "far"
            )
        if self.logger is not None:
            self.logger.log({"skipped_steps": self.skipped.total}, step=self.step, split="train")
        if too_many:
            # a process may have nothing to find; after a loss it must not wait for others in a backward pass, nor
            # where processes wait for one another inside of it
            backward = what == "gradient" and not shares_batches()
            place = first_non_finite_module(self._unwrapped_model, self._loss_of_last_batch, backward)
            where = next((one for one in of_all_processes([place]) if one != NOWHERE), NOWHERE)
            raise FloatingPointError(
                f"the {what} was not finite in {self.skipped.in_a_row} steps in a row (optim.max_non_finite_steps). "
                f"The first non-finite value appears {where}. Samples of the last step: {ids}"
            )

    def _loss_of_last_batch(self) -> Tensor:
        """The forward pass and loss of `last_batch` again, without the wrapper of distributed training."""
        wrapped, self.model = self.model, self._unwrapped_model
        try:
            return self._compute_loss(self.outputs_of(self.last_batch), self.last_batch)
        finally:
            self.model = wrapped

    def outputs_of(self, batch: Any) -> dict[str, Tensor]:
        """Predictions of a batch that is ready for the model."""
        return super()._forward(batch)


class StepScheduler(LRScheduler):
    """The host's scheduler, moved on by optimiser steps, before a checkpoint of the step is saved.

    The host calls it after every batch and after saving: a run resumed there would lag behind by a step.
    """

    def advance(self) -> None:
        """Go on by an optimiser step, unless the schedule follows metrics."""
        if self.scheduler_type != "ReduceLROnPlateau":
            super().step()

    def step(self, metrics: Any = None, epoch: Any = None) -> None:
        """What the host calls: go on only if the schedule follows metrics."""
        if metrics is not None:
            super().step(metrics, epoch)


def of_all_processes(values: list[T]) -> list[T]:
    """The values of every process, in the order of their ranks, on every process."""
    if not distutils.initialized():
        return values
    gathered: list[list[T]] = [[]] * distutils.get_world_size()
    torch.distributed.all_gather_object(gathered, values)
    return [value for of_one in gathered for value in of_one]


def sample_ids(batch: Any) -> list[str]:
    """Names of the structures in a batch, `sid_fid` or `sid` as in prediction files."""
    columns = [value.tolist() if isinstance(value, Tensor) else value for value in (batch[key] for key in _ids(batch))]
    return ["_".join(map(str, row)) for row in zip(*columns, strict=True)]


def _ids(batch: Any) -> list[str]:
    return [key for key in ("sid", "fid") if key in batch]
