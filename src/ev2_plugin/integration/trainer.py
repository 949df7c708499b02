"""The host's trainer with what the recipes of the paper need besides."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from fairchem.core.common import distutils
from fairchem.core.models.base import HydraModel
from fairchem.core.modules.exponential_moving_average import ExponentialMovingAverage
from fairchem.core.modules.normalization.element_references import LinearReferences
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ev2_plugin.integration.element_references import from_elements, only_fitted
from ev2_plugin.integration.frozen_weights import freeze, frozen_part
from ev2_plugin.integration.label_transforms import check_label_transforms, check_normalizer_settings
from ev2_plugin.integration.loss_terms import LossTerm, read_loss_terms
from ev2_plugin.integration.optimizer_steps import StepScheduler
from ev2_plugin.integration.position_labels import PositionLabels
from ev2_plugin.integration.prediction_files import PredictionFiles
from ev2_plugin.integration.relaxations import Relaxations
from ev2_plugin.integration.training_loop import TrainingLoop
from ev2_plugin.model.backbone import Backbone
from ev2_plugin.model.parameter_groups import no_weight_decay
from ev2_plugin.training.schedule import CosineSchedule

PRECISIONS = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}


class Trainer(PredictionFiles, Relaxations, TrainingLoop):
    """fairchem's OCP trainer with more settings.

    * `optim.global_batch_size`: the batches that processes lack are accumulated. Schedules, `eval_every` and
      `checkpoint_every` count optimiser steps.
    * `scheduler_params` with `lambda_type: cosine`, lengths in epochs.
    * `optim.precision`: `fp32`, `fp16` (gradients scaled) or `bf16`, on any device.
    * No weight decay on norms and biases, in the hydra form too.
    * `optim.freeze`: part of the model keeps its weights.
    * `optim.early_stopping`: validations in a row without a better primary metric that end the training.
    * Labels made from positions (`displacement`, `noise`), Noisy Nodes, loss coefficients that decay.
    * Element references by symbol; an element that has none is an error.
    * A step with a non-finite loss or gradient is skipped; `optim.max_non_finite_steps` in a row end the run.
    * Prediction files in the dataset's order and in single precision; repeated ids are an error.
    * Checkpoints that are whole or not there, `optim.keep_checkpoints` of them, and hold all that it takes to go on to
      the same last bit; a signal stops a run after a whole step.
    * Relaxations in batches that structures leave when they are done; started again, they go on.
    """

    def load(self, inference_only: bool) -> None:
        """Build everything, as the host does."""
        optim = self.config["optim"]
        precision = optim.get("precision") or ("fp16" if self.config["amp"] else "fp32")
        if precision not in PRECISIONS:
            raise ValueError(f"optim.precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        self.autocast_dtype = PRECISIONS[precision]
        self.scaler = torch.GradScaler(self.device.type) if precision == "fp16" else None
        if self.scaler and self.device.type == "cpu":
            # the host asks for autocast on CUDA by name wherever gradients are scaled
            warnings.filterwarnings("ignore", message="User provided device_type of 'cuda', but CUDA is not available")
        self.position_labels = PositionLabels(self.config)
        super().load(inference_only)
        if (seed := self.config["cmd"]["seed"]) is not None and distutils.get_rank():
            self.set_seed(seed + distutils.get_rank())  # ranks have the same weights now, and draw their own masks

    def load_references_and_normalizers(self) -> None:
        """References may be given by element symbol; those without meaning are never used.

        What is to be fitted comes from the checkpoint where there is no training set.
        """
        given = self.config["dataset"]
        transforms = dict(given.get("transforms") or {})
        if "element_references" in transforms:
            transforms["element_references"] = from_elements(transforms["element_references"])
        if "normalizer" in transforms:
            check_normalizer_settings(transforms["normalizer"])
        if self.train_dataset is None:
            for name in {"element_references", "normalizer"} & set(transforms):
                transforms[name] = {target: one for target, one in transforms[name].items() if target != "fit"}
        self.config["dataset"] = {**given, "transforms": transforms}
        try:
            super().load_references_and_normalizers()
        finally:
            self.config["dataset"] = given
        self.elementrefs: dict[str, LinearReferences] = only_fitted(self.elementrefs)
        check_label_transforms(self.normalizers, self.elementrefs, self.output_targets)

    def load_model(self) -> None:
        """Build the model; what `optim.freeze` names keeps its weights.

        Raises:
            ValueError: If the model has no such part.
        """
        super().load_model()
        frozen = freeze(self._unwrapped_model, frozen_part(self.config))
        if frozen and isinstance(self.model, DistributedDataParallel):
            self.model = DistributedDataParallel(self._unwrapped_model)  # which waits for gradients of trained weights
        if frozen and distutils.is_master():
            logging.info(f"{len(frozen)} weights are not trained (optim.freeze: {frozen_part(self.config)})")

    def load_loss(self) -> None:
        """Read the loss functions, whose coefficients may depend on the length of the training."""
        self.count_steps()
        self.loss_functions: list[LossTerm] = read_loss_terms(self.config["loss_functions"], self.total_steps)

    def load_optimizer(self) -> None:
        """Take weight decay from norms and biases alone; the host's hydra model takes it from embeddings instead."""
        model = self._unwrapped_model
        if isinstance(model, HydraModel) and isinstance(model.backbone, Backbone):
            model.no_weight_decay = lambda: no_weight_decay(model)
        super().load_optimizer()

    def load_extras(self) -> None:
        """Schedule, clipping, averaged weights.

        Raises:
            ValueError: If a setting is out of range, or a schedule needs metrics and there is no validation set.
        """
        self.scheduler = StepScheduler(self.optimizer, self._schedule())
        self.clip_grad_norm = self.config["optim"].get("clip_grad_norm")
        if self.clip_grad_norm is not None and not self.clip_grad_norm > 0:
            raise ValueError(f"optim.clip_grad_norm must be positive, or null for none, got {self.clip_grad_norm!r}")
        if self.train_loader is not None and self.patience is not None and self.val_loader is None:
            raise ValueError("optim.early_stopping follows a metric: it needs dataset.val")
        self._start_averages()

    def _start_averages(self) -> None:
        decay = self.config["optim"].get("ema_decay")
        if decay is not None and not 0 <= decay < 1:
            raise ValueError(f"optim.ema_decay must lie in [0, 1), or be null for no averages, got {decay!r}")
        self.ema = ExponentialMovingAverage(self.model.parameters(), decay) if decay else None

    def _schedule(self) -> dict[str, Any]:
        optim = self.config["optim"]
        params = optim.get("scheduler_params") or {}
        if optim.get("scheduler") == "ReduceLROnPlateau" and self.train_loader is not None and self.val_loader is None:
            raise ValueError("optim.scheduler ReduceLROnPlateau follows a metric: it needs dataset.val")
        if params.get("lambda_type") != "cosine":
            return {**optim, **params}
        if self.train_loader is None:
            return {"scheduler": "Null"}
        cosine = CosineSchedule(
            warmup_steps=int(params["warmup_epochs"] * self.steps_per_epoch),
            total_steps=self.total_steps,
            warmup_factor=params["warmup_factor"],
            min_factor=params["lr_min_factor"],
        )
        # a function: an object would go into checkpoints, and its lengths take the place of the config's on resuming
        return {"scheduler": "LambdaLR", "lr_lambda": lambda step: cosine(step)}

    def load_checkpoint(
        self, checkpoint_path: str, checkpoint: dict[str, Any] | None = None, inference_only: bool = False
    ) -> None:
        """Load weights and, if there is a training set to go on with, the state of training."""
        super().load_checkpoint(checkpoint_path, checkpoint, inference_only)
        self.elementrefs = only_fitted(self.elementrefs)
        if self.ema is None and self.train_loader is not None and not inference_only:
            self._start_averages()  # a checkpoint without averages (best_checkpoint.pt): they start with its weights

    def _forward(self, batch: Any) -> dict[str, Tensor]:
        self.stop_evaluation_if_asked()
        batch = batch.to(self.device)
        self.position_labels.add_to(batch, self.model.training, seed=(self.config["cmd"]["seed"] or 0, self.step))
        if isinstance(self.model, DistributedDataParallel):
            self.model.require_backward_grad_sync = self.ends_step()
        return self.outputs_of(batch)

    def outputs_of(self, batch: Any) -> dict[str, Tensor]:
        """Predictions of a batch that is ready for the model, in single precision at least."""
        with torch.autocast(self.device.type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None):
            outputs = super().outputs_of(batch)
        return {name: output.to(torch.promote_types(output.dtype, torch.float32)) for name, output in outputs.items()}

    def _compute_loss(self, out: Mapping[str, Tensor], batch: Any) -> Tensor:
        """Sum of the loss terms. Non-finite predictions make it so; the host would put zeros in their place."""
        self.last_batch = batch
        step = self.step // self.batches.accumulation
        return torch.stack(
            [term.coefficient(step) * self._term(term, out, batch) for term in self.loss_functions]
        ).sum()

    def _term(self, term: LossTerm, out: Mapping[str, Tensor], batch: Any) -> Tensor:
        name = term.target
        if name not in batch:
            raise ValueError(f"the loss needs {name!r}, which the data lack; they have: {', '.join(batch.keys())}")
        target = batch[name].reshape(out[name].shape)
        # in this order: references are those of the raw label
        if name in self.elementrefs:
            target = self.elementrefs[name].dereference(target, batch)
        if name in self.normalizers:
            target = self.normalizers[name].norm(target)
        return term.value(out[name], target, batch, self.output_targets[name])
