"""The `loss_functions` of a config."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fairchem.core.common import distutils
from fairchem.core.common.registry import registry
from torch import Tensor, nn

from ev2_plugin.training.schedule import LinearDecay

_KEYS = {"fn", "coefficient", "final_coefficient", "reduction"}


@dataclass(frozen=True)
class LossTerm:
    """One target's part of the loss.

    Attributes:
        target: Name of the output.
        error: One of the losses in the host's registry: error of every entry, not averaged.
        coefficient: Weight at each optimiser step.
        reduction: `mean` or `sum` over all entries of all processes.
    """

    target: str
    error: nn.Module
    coefficient: Callable[[int], float]
    reduction: str

    def value(self, prediction: Tensor, target: Tensor, batch: Any, output: Mapping[str, Any]) -> Tensor:
        """Error of a batch, averaged such that the gradients, which processes average, are those of the global mean.

        Args:
            prediction: Normalised.
            target: Normalised label of the same shape.
            batch: Where `fixed`, `natoms` and the target's mask come from.
            output: The target's entry under `outputs`.
        """
        if output["level"] == "atom":
            counted = counted_atoms(batch, self.target, output)
            prediction, target = prediction[counted], target[counted]
        errors = self.error(prediction, target, natoms=batch.natoms)
        if self.reduction == "sum":
            return errors.sum()
        count = distutils.all_reduce(errors.numel(), device=errors.device)
        return errors.sum() * distutils.get_world_size() / max(count, 1)


def counted_atoms(batch: Any, target: str, output: Mapping[str, Any]) -> Tensor:
    """Atoms whose error counts: free ones if the output says so, and those that have the label at all."""
    counted = torch.ones_like(batch.fixed, dtype=torch.bool)
    if output.get("train_on_free_atoms"):
        counted &= batch.fixed == 0
    if f"{target}_mask" in batch:
        counted &= batch[f"{target}_mask"]
    return counted


def read_loss_terms(settings: Sequence[Mapping[str, Any]], total_steps: int) -> list[LossTerm]:
    """Read the section.

    Args:
        settings: List of `{target: {fn, coefficient, final_coefficient, reduction}}`.
        total_steps: Optimiser steps of the training, over which a coefficient goes to its final value.

    Raises:
        ValueError: If a key is missing or unknown or the reduction neither `mean` nor `sum`.
    """
    return [_read(target, entry, total_steps) for loss in settings for target, entry in loss.items()]


def _read(target: str, entry: Any, total_steps: int) -> LossTerm:
    if not isinstance(entry, Mapping):
        raise ValueError(f"loss_functions.{target} must give fn and coefficient, got {entry!r}")
    missing, unknown = {"fn", "coefficient"} - set(entry), set(entry) - _KEYS
    if missing or unknown:
        wrong = [*(f"lacks {key!r}" for key in sorted(missing)), *(f"has unknown key {key!r}" for key in unknown)]
        raise ValueError(f"loss_functions.{target} {', '.join(wrong)}; keys are {', '.join(sorted(_KEYS))}")
    reduction = entry.get("reduction") or "mean"
    if reduction not in ("mean", "sum"):
        raise ValueError(f"loss_functions.{target}.reduction must be mean or sum, got {reduction!r}")
    start, end = entry["coefficient"], entry.get("final_coefficient", entry["coefficient"])
    for value in (start, end):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"loss_functions.{target}: coefficients are finite numbers, got {value!r}")
    decay = LinearDecay(float(start), float(end), total_steps)
    return LossTerm(target, registry.get_loss_class(entry["fn"])(), decay, reduction)
