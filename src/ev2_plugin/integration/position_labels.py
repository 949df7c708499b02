"""Labels that are made from positions: displacements to the relaxed structure, and noise that was added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ev2_plugin.integration.rank_groups import data_rank
from ev2_plugin.training.noisy_nodes import NoisyNodes, corrupt, minimum_image

DISPLACEMENT, NOISE = "displacement", "noise"
SOURCES_OF_LABELS = {DISPLACEMENT: "pos_relaxed", NOISE: "pos"}
"""What the data must have for each label that is made here."""


class PositionLabels:
    """Corrupts training batches and labels them.

    An output named `displacement` gets the way to the relaxed positions, counted in the loss for free atoms with
    tag > 0 (IS2RS); an output named `noise` the Gaussian noise, counted for the atoms that were moved.

    Args:
        config: The trainer's config; `outputs` and `task.noisy_nodes` are read.

    Raises:
        ValueError: If noise is asked for without an output that learns from it, or the other way round.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        settings = (config.get("task") or {}).get("noisy_nodes")
        self.outputs = {DISPLACEMENT, NOISE} & set(config.get("outputs") or {})
        if settings is not None and not self.outputs:
            raise ValueError(
                f"task.noisy_nodes needs an output named {DISPLACEMENT!r} or {NOISE!r} that learns from it"
            )
        if settings is None and NOISE in self.outputs:
            raise ValueError(f"the output {NOISE!r} needs task.noisy_nodes (std, probability, corrupt_ratio)")
        self.noisy_nodes = _read_noisy_nodes(settings) if settings is not None else None

    def add_to(self, batch: Any, training: bool, seed: tuple[int, int]) -> None:
        """Corrupt and label a batch in place.

        Args:
            batch: A host batch on its device.
            training: Corrupt it; otherwise positions stay as they are.
            seed: Seed of the run and number of the batch: the same noise after a restart.

        Raises:
            ValueError: If a training batch lacks relaxed positions that a label needs, or has no tagged atoms.
        """
        if not self.outputs:
            return
        free = batch.fixed == 0
        if self.noisy_nodes is not None and training:
            movable = free & _tagged(batch) if self.noisy_nodes.interpolate else free
            state = np.random.SeedSequence([*seed, data_rank()]).generate_state(1)[0]
            corruption = corrupt(
                batch.pos,
                movable,
                batch.batch,
                self.noisy_nodes,
                torch.Generator().manual_seed(int(state)),
                _to_relaxed(batch),
            )
            batch.pos, batch.noise, batch.noise_mask = corruption.positions, corruption.noise, corruption.moved
        elif NOISE in self.outputs:
            batch.noise, batch.noise_mask = torch.zeros_like(batch.pos), torch.zeros_like(free)
        if DISPLACEMENT in self.outputs:
            self._add_displacement(batch, free, training)

    def _add_displacement(self, batch: Any, free: Tensor, training: bool) -> None:
        displacement = _to_relaxed(batch)
        if displacement is None:
            if training:
                raise ValueError(f"the output {DISPLACEMENT!r} needs 'pos_relaxed' in the training data")
            return  # structures to predict
        batch.displacement, batch.displacement_mask = displacement, free & _tagged(batch)
        if training and not batch.displacement_mask.any():
            raise ValueError(
                f"the output {DISPLACEMENT!r} learns from free atoms with tag 1 (surface) or 2 (adsorbate), "
                "but a whole batch has none"
            )


def _read_noisy_nodes(settings: Any) -> NoisyNodes:
    if not isinstance(settings, Mapping):
        raise ValueError(f"task.noisy_nodes must give std and probability, got {settings!r}")
    numbers = {name: value for name, value in settings.items() if name != "interpolate"}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"task.noisy_nodes.{name} must be a number, got {value!r}")
    interpolate = settings.get("interpolate", False)
    if not isinstance(interpolate, bool):
        raise ValueError(f"task.noisy_nodes.interpolate must be true or false, got {interpolate!r}")
    try:
        return NoisyNodes(**{name: float(value) for name, value in numbers.items()}, interpolate=interpolate)
    except TypeError as error:  # a key that is missing or unknown; the message names it
        raise ValueError(f"task.noisy_nodes: {error}") from error


def _tagged(batch: Any) -> Tensor:
    if "tags" not in batch:
        raise ValueError(f"the output {DISPLACEMENT!r} needs 'tags' in the data: 1 surface, 2 adsorbate, 0 the rest")
    return batch.tags > 0


def _to_relaxed(batch: Any) -> Tensor | None:
    if "pos_relaxed" not in batch:
        return None
    cells = batch.cell.reshape(-1, 3, 3)
    pbc = batch.pbc.reshape(-1, 3) if "pbc" in batch else torch.ones_like(cells[:, 0], dtype=torch.bool)
    return minimum_image(batch.pos_relaxed - batch.pos, cells, pbc, batch.batch)
