"""Trainings of many short kinds on several ranks, and what they leave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ase import Atoms
from ase.build import bulk, molecule
from fairchem.core.common import distutils
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ev2_plugin.data.lmdb import read_lmdb, write_lmdb
from ev2_plugin.data.metadata import compute_metadata, write_metadata
from ev2_plugin.data.structures import structure_to_data
from ev2_plugin.integration.trainer import Trainer
from helpers import ranks, tiny_s2ef
from helpers.shared_batches import groups_of
from helpers.trainers import config, make_trainer, weights

GLOBAL_BATCH, STEPS = 4, 20


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        config: As `helpers.trainers.config` makes it.
        group: Ranks that share a batch (`--gp-gpus`); None for none.
    """

    config: dict[str, Any]
    group: int | None = None


@dataclass(frozen=True)
class Trained:
    """What one rank saw and has at the end.

    Attributes:
        losses: Of every training batch.
        samples: `sid` of its structures, by batch.
        edge_free: Whether a batch had single atoms only.
        weights: By name.
        averages: Those of the averaged weights, in the order of the parameters.
        metrics: Of a validation at the end.
        drawn: A random number drawn before the training.
    """

    losses: list[float]
    samples: list[list[int]]
    edge_free: bool
    weights: dict[str, Tensor]
    averages: list[Tensor]
    metrics: dict[str, float]
    drawn: float


def write_mixed_set(folder: Path, number: int) -> dict[str, Any]:
    """Write structures of 1 to 8 atoms with labels of no meaning; the `dataset.train` part of a config.

    Two of five are single atoms. No two of the others that follow one another have the same size.
    """
    rng = np.random.default_rng(0)
    crystals = [bulk("Cu", cubic=True), molecule("CH3OH", vacuum=4.0), bulk("NaCl", "rocksalt", a=5.6, cubic=True)]

    def structure(index: int) -> Atoms:
        if index % 5 in (1, 2):
            return Atoms("Fe", cell=[9, 9, 9])
        atoms = crystals[index % 3].copy()
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        return atoms

    def samples() -> Any:
        for index in range(number):
            atoms = structure(index)
            yield structure_to_data(atoms, sid=index, energy=rng.normal(), forces=rng.normal(size=(len(atoms), 3)))

    path = folder / "data.0000.lmdb"
    write_lmdb(path, samples())
    write_metadata(folder, compute_metadata(read_lmdb(path), cutoff=4.0, max_neighbors=12))
    return {"format": "lmdb", "src": str(folder), "key_mapping": {"y": "energy", "force": "forces"}}


def training(
    dataset: dict[str, Any],
    processes: int,
    *,
    group: int | None = None,
    model: Mapping[str, Any] | None = None,
    epochs: int = 4,
    **optim: Any,
) -> Training:
    """A training in which `GLOBAL_BATCH` structures are computed at a time.

    Args:
        dataset: From `write_mixed_set`.
        processes: How many there are.
        group: How many share a batch.
        model: Keys of the model section to change.
        epochs: Of training.
        **optim: Keys to change.
    """
    batch_size = GLOBAL_BATCH * (group or 1) // processes
    made = config(
        dataset,
        {**tiny_s2ef.FLAT_MODEL, **(model or {})},
        **{"batch_size": batch_size, "eval_batch_size": batch_size, "max_epochs": epochs, "eval_every": 1000, **optim},
    )
    return Training(made, group)


def train_all(trainings: Mapping[str, Training], folder: Path) -> dict[str, Trained]:
    """Train one after the other in this process, in float64: differences are of the order of sums, not of rounding."""
    found = {}
    for name, one in trainings.items():
        with nullcontext() if one.group is None else groups_of(one.group):
            on_cpu = not distutils.initialized() or dist.get_backend() == "gloo"
            made = make_trainer(one.config, folder / name, cpu=on_cpu, local_rank=distutils.get_rank())
            found[name] = train(in_double_precision(made))
    return found


def in_double_precision(trainer: Trainer) -> Trainer:
    """The trainer with a model in float64, wrapped as the host wraps it."""
    model = trainer._unwrapped_model.double()
    trainer.model = DistributedDataParallel(model) if distutils.initialized() else model
    trainer.load_optimizer()
    trainer.load_extras()
    return trainer


def train(trainer: Trainer) -> Trained:
    """Train, and watch what is trained on."""
    losses: list[float] = []
    samples: list[list[int]] = []
    sizes: list[int] = []
    drawn, compute_loss = float(torch.rand(1)), trainer._compute_loss

    def recorded(out: Mapping[str, Tensor], batch: Any) -> Tensor:
        loss = compute_loss(out, batch)
        if trainer.model.training:
            losses.append(loss.item())
            samples.append(list(map(int, batch.sid)))
            sizes.append(int(batch.natoms.max()))
        return loss

    trainer._compute_loss = recorded
    trainer.train(disable_eval_tqdm=True)
    metrics = trainer.validate("val", disable_tqdm=True)
    return Trained(
        losses,
        samples,
        min(sizes) == 1,
        {name: value.cpu() for name, value in weights(trainer).items()},
        [] if trainer.ema is None else [value.cpu() for value in trainer.ema.shadow_params],
        {name: float(value["metric"]) for name, value in metrics.items()},
        drawn,
    )


def mean_losses(of_ranks: Sequence[Trained]) -> list[float]:
    """Losses of the global batches: each rank's counts its share so that their mean is that of the whole."""
    return [math.fsum(values) / len(of_ranks) for values in zip(*(one.losses for one in of_ranks), strict=True)]


def on_ranks(processes: int, trainings: Mapping[str, Training], folder: Path) -> dict[str, list[Trained]]:
    """What every rank has of each training."""
    of_ranks = ranks.run_on_ranks(processes, train_all, trainings, folder / f"ranks_{processes}")
    return {name: [one[name] for one in of_ranks] for name in trainings}
