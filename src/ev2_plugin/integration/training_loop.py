"""The loop over batches: train, log, save, validate, and stop where a signal asks for it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from fairchem.core.common import distutils
from fairchem.core.modules.scaling.util import ensure_fitted

from ev2_plugin.integration.checkpoints import Checkpoints
from ev2_plugin.integration.optimizer_steps import of_all_processes
from ev2_plugin.storage.checkpoint_folder import NEWEST
from ev2_plugin.training.batch_plan import check_global_batch_size
from ev2_plugin.training.stopping import Stopped


class TrainingLoop(Checkpoints):
    """The host's loop, except that it can end after any step, and that nothing is left out when it goes on.

    A validation that was due when the run ended is made before the first step.
    """

    def train(self, disable_eval_tqdm: bool = False) -> None:
        """Train; at the end validate and save, whatever `eval_every` and `checkpoint_every` say.

        With `optim.early_stopping` the training ends after so many validations in a row without a better metric.

        Raises:
            FloatingPointError: If too many steps in a row had a non-finite loss or gradient.
            OSError: If a checkpoint cannot be written.
            Stopped: If a signal asked for it; everything is saved.
            ValueError: If the processes do not add up to `optim.global_batch_size`.
        """
        ensure_fitted(self._unwrapped_model, warn=True)
        check_global_batch_size(self.batches, self.config["optim"].get("global_batch_size"))
        if distutils.is_master():
            logging.info(f"Batches: {self.batches}.")
        self._quiet, start = disable_eval_tqdm, self.progress
        self.metrics: dict[str, Any] = {}
        if self.primary_metric != self.validation_metric or self.best_val_metric is None:
            self.best_val_metric = 1e9 if "mae" in (self.validation_metric or "") else -1.0
        self.start_random_numbers()
        if self.step and self._is_due("eval_every") and self.validated_step != self.step:
            self._evaluate()
        while self.step < self.config["optim"]["max_epochs"] * len(self.train_loader) and not self.ends_early:
            self._train_epoch()
        if self.validated_step != self.step:
            self._evaluate()
        if self.progress != start:
            self._save_once()

    def _train_epoch(self) -> None:
        epoch, done = divmod(self.step, len(self.train_loader))
        self.train_sampler.set_epoch_and_start_iteration(epoch, done)
        for number, batch in enumerate(self.train_loader, start=done + 1):
            self.epoch = epoch + number / len(self.train_loader)
            self._train_batch(batch)
            if self._is_due("checkpoint_every"):
                self.save()
            if self._is_due("eval_every"):
                self._evaluate()
            self._stop_if_asked()
            if self.ends_early:
                return
        if self._interval("checkpoint_every") == -1:
            self.save()

    def _train_batch(self, batch: Any) -> None:
        if self.ends_step():  # the batch before did: this one begins another
            self.note_random_numbers()
        self.step += 1
        self.model.train()
        outputs = self._forward(batch)
        loss = self._compute_loss(outputs, batch)
        self.metrics = self._compute_metrics(outputs, batch, self.evaluator, self.metrics)
        batch_loss = loss.item()
        self.metrics = self.evaluator.update("loss", batch_loss, self.metrics)
        self._backward(self.scaler.scale(loss) if self.scaler else loss)
        self._log(batch_loss)

    def _log(self, batch_loss: float) -> None:
        """Log means since the last line on the console, as the host does, and the loss of this batch alone."""
        values = {name: metric["metric"] for name, metric in self.metrics.items()}
        values |= {"lr": self.scheduler.get_lr(), "epoch": self.epoch, "step": self.step}
        if self.step % self.config["cmd"]["print_every"] == 0 and distutils.is_master():
            logging.info(", ".join(f"{name}: {value:.2e}" for name, value in values.items()))
            self.metrics = {}
        if self.logger is not None:
            self.logger.log({**values, "batch_loss": batch_loss}, step=self.step, split="train")

    def _interval(self, name: str) -> int:
        return self.config["optim"].get(name, self.config["optim"]["eval_every"])

    def _is_due(self, name: str) -> bool:
        every = self._interval(name)
        return every != -1 and self.step % every == 0

    def _evaluate(self) -> None:
        """Validate with averaged weights, keep them if they are the best, let the schedule see the metric."""
        with self.evaluation():
            try:
                self._validate()
            except Stopped:
                if self.ema:
                    self.ema.restore()
                self._save_once()
                raise
        self.validated_step = self.step

    def _validate(self) -> None:
        if self.val_loader is not None:
            metrics, best = self.validate(split="val", disable_tqdm=self._quiet), self.best_val_metric
            self.update_best(self.validation_metric, metrics, disable_eval_tqdm=self._quiet)
            self._count_validation(better=self.best_val_metric != best)
            if self.scheduler.scheduler_type == "ReduceLROnPlateau":
                self.scheduler.step(metrics=metrics[self.validation_metric]["metric"])
        if self.config["task"].get("eval_relaxations", False):
            self.run_relaxations()

    def _count_validation(self, better: bool) -> None:
        (better, *_) = of_all_processes([better])  # one of them decides: they must end together
        self.validations_without_gain = 0 if better else self.validations_without_gain + 1
        if self.ends_early and distutils.is_master():
            logging.info(
                f"Training ends early, at step {self.step}: {self.validations_without_gain} validations in a row "
                f"without a better {self.validation_metric} than {self.best_val_metric:.4g} (optim.early_stopping)."
            )

    def stop_evaluation_if_asked(self) -> None:
        """End a validation that training waits for; it is made when the run goes on.

        Raises:
            Stopped: If a signal asked for it.
        """
        if self.evaluating:
            _, asked = self.agree(False)
            if asked:
                raise self._stopped(asked)

    def _stop_if_asked(self) -> None:
        if self.asked_to_stop and self.ends_step():
            self._save_once()
            raise self._stopped(self.asked_to_stop)

    def _save_once(self) -> None:
        if self.saved != self.progress:
            self.save()

    def _stopped(self, received: int) -> Stopped:
        where = Path(self.config["cmd"]["checkpoint_dir"]) / NEWEST
        return Stopped(
            f"stopped at step {self.step}, saved to {where}; the same command with "
            f"--timestamp-id {self.timestamp_id} goes on from there",
            received,
        )
