"""Saving the state of training, all of it, and going on from there to the same last bit."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from fairchem.core.common import distutils
from torch.utils.data import DataLoader

import ev2_plugin
from ev2_plugin.integration.optimizer_steps import OptimizerSteps, of_all_processes
from ev2_plugin.integration.trainer_checkpoint import read_for_trainer
from ev2_plugin.integration.weights import check_weights
from ev2_plugin.storage.checkpoint_folder import NEWEST, CheckpointFolder
from ev2_plugin.training.batch_plan import check_count
from ev2_plugin.training.random_state import State, restore_random_state, take_random_state

KEEP_CHECKPOINTS = 3


class Checkpoints(OptimizerSteps):
    """Optimiser steps whose state goes to disk and comes back.

    Besides the host's state a checkpoint holds where the random numbers of every process stand, how many batches make
    a step, and whether the validation that is due at its step has been made.
    """

    validated_step = 0
    validations_without_gain = 0
    """In a row, up to the present step."""
    saved: tuple[int, int] | None = None
    """The progress that the newest checkpoint of the run holds."""
    evaluating = False
    _resumed_random_states: list[State] | None = None
    _random_state_before: State | None = None

    @property
    def folder(self) -> CheckpointFolder:
        """The run's checkpoints."""
        return CheckpointFolder(Path(self.config["cmd"]["checkpoint_dir"]), self.keep)

    def count_steps(self) -> None:
        """Read how many batches make a step, how many checkpoints stay, and when a training ends early.

        Raises:
            ValueError: If a number is no positive integer.
        """
        super().count_steps()
        self.keep = self.config["optim"].get("keep_checkpoints", KEEP_CHECKPOINTS)
        check_count("keep_checkpoints", self.keep)
        self.patience = self.config["optim"].get("early_stopping")
        if self.patience is not None:
            check_count("early_stopping", self.patience)

    @property
    def ends_early(self) -> bool:
        """Whether there have been as many validations without a better metric as `optim.early_stopping` allows."""
        return self.patience is not None and self.validations_without_gain >= self.patience

    def get_dataloader(self, dataset: Any, sampler: Any, workers: int | None = None) -> DataLoader:
        """A loader with random numbers of its own: an epoch that is begun again must not use up the model's."""
        loader = super().get_dataloader(dataset, sampler, workers)
        loader.generator = torch.Generator().manual_seed(self.config["cmd"]["seed"] or 0)
        return loader

    def save(self, metrics: Any = None, checkpoint_file: str = NEWEST, training_state: bool = True) -> str | None:
        """Write a checkpoint; every process must call this.

        Args:
            metrics: Of the validation, if there was one.
            checkpoint_file: `checkpoint.pt` for the training state, `best_checkpoint.pt` for averaged weights alone, or
                another name in the same folder.
            training_state: Save all that training needs to go on, rather than the weights to predict with.

        Raises:
            OSError: If it cannot be written, on all processes; what was saved before is kept.
        """
        random_states = of_all_processes([self._random_state()]) if training_state else []
        if self.is_debug:
            return None
        error: OSError | None = None
        path: Path | None = None
        if distutils.is_master():
            try:
                path = self._write(checkpoint_file, metrics, random_states, training_state)
            except OSError as raised:
                error = raised
        (failure, *_) = of_all_processes([str(error or "")])
        if error is not None:
            raise error
        if failure:
            raise OSError(f"the first process could not save: {failure}")
        if training_state:
            self.saved = self.progress
        return None if path is None else str(path)

    def _write(self, name: str, metrics: Any, random_states: list[State], training_state: bool) -> Path:
        if training_state:
            content = {**self._content(metrics), **self._training_state(random_states)}
            if name != NEWEST:
                return self.folder.write(name, content)
            # by optimiser steps: another number of processes counts batches otherwise
            return self.folder.save(content, self.step // self.batches.accumulation)
        if self.ema is not None:
            self.ema.store()
            self.ema.copy_to()
        try:
            return self.folder.write(name, self._content(metrics))
        finally:
            if self.ema is not None:
                self.ema.restore()

    def _content(self, metrics: Any) -> dict[str, Any]:
        return {
            "ev2_plugin": {"version": ev2_plugin.__version__, "trained_steps": self.step, "trained_epochs": self.epoch},
            "state_dict": self.model.state_dict(),
            "normalizers": {name: one.state_dict() for name, one in self.normalizers.items()},
            "elementrefs": {name: one.state_dict() for name, one in self.elementrefs.items()},
            "config": self.config,
            "val_metrics": metrics,
            "amp": self.scaler.state_dict() if self.scaler else None,
        }

    def _training_state(self, random_states: list[State]) -> dict[str, Any]:
        follows_nothing = self.scheduler.scheduler_type == "Null"
        return {
            "epoch": self.epoch,
            "step": self.step,
            "batches_per_step": self.batches.accumulation,
            "validated_step": self.validated_step,
            "validations_without_gain": self.validations_without_gain,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if follows_nothing else self.scheduler.scheduler.state_dict(),
            # without the weights that it sets aside during a validation
            "ema": {**self.ema.state_dict(), "collected_params": []} if self.ema else None,
            "best_val_metric": self.best_val_metric,
            "primary_metric": self.validation_metric,
            "random": random_states,
        }

    @property
    def progress(self) -> tuple[int, int]:
        """Batches of training, and at which of them the last validation was made."""
        return self.step, self.validated_step

    @property
    def validation_metric(self) -> str | None:
        """The metric that says which checkpoint is the best; None if the config does not name one."""
        return self.evaluation_metrics.get("primary_metric", self.evaluator.task_primary_metric[self.name])

    def resume(self, start: str | Path | None = None) -> bool:
        """Go on from the newest whole checkpoint of the run's own folder.

        Args:
            start: The checkpoint that the run was given to start from, which only counts while it has none of its own.

        Returns:
            Whether there is one.

        Raises:
            ValueError: If there are some and all are damaged, the weights are of another model, or `start` is one of
                the run's own and not the newest.
        """
        found = self.folder.newest_whole(trust=self._trusts_files)
        if found is None:
            return False
        path, content = found
        if start is not None and Path(start).resolve().parent == path.resolve().parent and not path.samefile(start):
            raise ValueError(
                f"--checkpoint {start} is of the run {self.timestamp_id} itself, which has come further ({path.name}): "
                "remove the later checkpoints, or begin a run with another --timestamp-id there"
            )
        check_weights(self.model, content["state_dict"], path)
        self.load_checkpoint(str(path), content)
        self.saved = self.progress
        logging.info(f"going on from {path}, step {self.step}")
        return True

    def load_checkpoint(
        self, checkpoint_path: str, checkpoint: dict[str, Any] | None = None, inference_only: bool = False
    ) -> None:
        """Load weights and, if there is a training set to go on with, the state of training.

        Args:
            checkpoint_path: The file.
            checkpoint: Its content, if it has been read already.
            inference_only: Load what prediction needs.
        """
        if checkpoint is None:
            logging.info(f"Loading checkpoint from: {checkpoint_path}")
            checkpoint = read_for_trainer(Path(checkpoint_path), trust=self._trusts_files)
        inference_only = inference_only or self.train_loader is None
        super().load_checkpoint(checkpoint_path, checkpoint, inference_only)
        if not inference_only:
            self._load_progress(checkpoint)

    def _load_progress(self, checkpoint: dict[str, Any]) -> None:
        """Count batches as this run does: another number of processes may need another number of them for a step."""
        then, now = checkpoint.get("batches_per_step", self.batches.accumulation), self.batches.accumulation
        self.validated_step = checkpoint.get("validated_step", self.step)
        self.validations_without_gain = checkpoint.get("validations_without_gain", 0)
        if then != now:
            self.step = self.step // then * now
            self.validated_step = self.validated_step // then * now
        self.repeat_unfinished_step()
        self._resumed_random_states = checkpoint.get("random")

    def start_random_numbers(self) -> None:
        """Go on with the random numbers of the checkpoint, if this run has as many processes as the one before."""
        states, self._resumed_random_states = self._resumed_random_states, None
        if states is None:
            return
        if len(states) != distutils.get_world_size():
            logging.warning(
                f"the checkpoint is of {len(states)} processes, this run has {distutils.get_world_size()}: dropout "
                "goes on with other random numbers"
            )
            return
        restore_random_state(states[distutils.get_rank()], self.device, self._generators)

    def note_random_numbers(self) -> State:
        """Note where the random numbers stand before a step or a validation: a checkpoint within has it done again."""
        self._random_state_before = take_random_state(self.device, self._generators)
        return self._random_state_before

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """What is not training, and leaves the random numbers of training as they are."""
        before = self.note_random_numbers()
        self.evaluating = True
        try:
            yield
        finally:
            self.evaluating = False
            restore_random_state(before, self.device, self._generators)

    def _random_state(self) -> State:
        within = self.evaluating or not self.ends_step()
        if within and self._random_state_before is not None:
            return self._random_state_before
        return take_random_state(self.device, self._generators)

    @property
    def _generators(self) -> Sequence[torch.Generator]:
        """Generators that parts of the model draw from."""
        found = (getattr(module, "gauge_generator", None) for module in self._unwrapped_model.modules())
        return [generator for generator in found if generator is not None]

    @property
    def _trusts_files(self) -> bool:
        return bool(self.config["task"].get("trust", False))
