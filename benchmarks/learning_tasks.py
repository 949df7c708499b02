"""The four tasks of the learning benchmark: labels, packaged recipes, and how these are made small."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ev2_plugin.data.lmdb import read_lmdb
from ev2_plugin.data.metadata import read_metadata
from ev2_plugin.data.statistics import compute_statistics
from ev2_plugin.demo.dataset import DatasetFolder, DatasetSize, build_dataset
from ev2_plugin.integration.run_config import find_config, load_config
from learning_molecules import composition_error, write_molecules
from training_runs import short_training

NOISE_ERROR = "noise_error"
"""Mean absolute error of the predicted noise per component, in units of its width; read off the loss."""

SLAB_CUTOFF, SLAB_NEIGHBORS = 5.0, 12  # Å, as the IS2RE recipes; edges per atom
SLAB_EDGES = {
    "max_radius": SLAB_CUTOFF,
    "max_neighbors": SLAB_NEIGHBORS,
    # Which of several equally distant atoms of a crystal is the last neighbour, rounding decides: keep all of them, or
    # the host would have other edges than we.
    "enforce_max_neighbors_strictly": False,
}

NETWORK = {
    "lmax": 3, "mmax": 2, "num_layers": 2, "grid_resolution": 10,
    "sphere_channels": 32, "attn_hidden_channels": 16, "num_heads": 4, "attn_alpha_channels": 16,
    "attn_value_channels": 8, "ffn_hidden_channels": 32, "edge_channels": 32,
    "alpha_drop": 0.0, "drop_path_rate": 0.0,
}  # fmt: skip
"""The recipes' networks made narrow and shallow; without dropout and stochastic depth, which hinder overfitting."""

NARROW_BASIS = {"distance_function": "gaussian"}
"""Gaussians 0.04 Å wide for molecules: the recipe's learnable ones start some Å wide, and it takes them more steps than
there are here to become sensitive to noise of 0.02 Å."""


@dataclass(frozen=True)
class Scale:
    """How much is learned, and for how long.

    Attributes:
        systems: Slabs with an adsorbate.
        frames: Frames of each.
        s2ef_frames: How many of all frames S2EF learns.
        molecules: Molecules.
        batch_size: Structures per step.
        steps: Optimiser steps of each task, about: whole epochs are run.
    """

    systems: int = 48
    frames: int = 3
    s2ef_frames: int = 48
    molecules: int = 48
    batch_size: int = 8
    steps: Mapping[str, int] = field(
        default_factory=lambda: {"s2ef": 360, "is2re": 300, "is2re_noisy_nodes": 800, "qm9": 1500}
    )


@dataclass(frozen=True)
class Target:
    """A quantity that a task learns.

    Attributes:
        metric: The host's name of its mean absolute error.
        label: For figures and tables.
        unit: Of the error.
        baseline: What `baseline_error` predicts.
        baseline_error: Mean absolute error of a predictor that knows no structure, in that unit.
    """

    metric: str
    label: str
    unit: str
    baseline: str
    baseline_error: float


@dataclass(frozen=True)
class Task:
    """One run to overfit.

    Attributes:
        name: Short name.
        title: For figures and tables.
        recipe: Packaged run file.
        changes: What is different from it.
        targets: What it learns.
    """

    name: str
    title: str
    recipe: str
    changes: Mapping[str, Any]
    targets: tuple[Target, ...]


def build_tasks(folder: Path, scale: Scale, seed: int) -> list[Task]:
    """Label the structures and set up the tasks.

    Args:
        folder: New folder for the LMDBs.
        scale: Sizes.
        seed: Of the structures.
    """
    size = DatasetSize(train=scale.systems, val=1, test=1, frames=scale.frames)
    slabs = build_dataset(folder / "slabs", size, seed=seed, cutoff=SLAB_CUTOFF, max_neighbors=SLAB_NEIGHBORS)
    return [
        _s2ef(slabs, scale),
        _is2re(slabs, scale),
        _is2re_noisy_nodes(slabs, scale),
        _qm9(folder / "molecules", scale),
    ]


def _s2ef(slabs: DatasetFolder, scale: Scale) -> Task:
    path = slabs.s2ef("train")
    frames = list(read_lmdb(path))[: scale.s2ef_frames]
    statistics = compute_statistics(frames)
    width = {"rmsd": statistics.energy_std}
    forces = torch.cat([data.force[data.fixed == 0] for data in frames])
    return Task(
        name="s2ef",
        title="S2EF",
        recipe="oc20/s2ef_2M_83M.yml",
        changes={
            "model": {**NETWORK, **SLAB_EDGES, **_sizes(path)},
            "dataset": {
                "train": {
                    "src": str(path.parent.resolve()),
                    "first_n": len(frames),
                    # as the recipe: one width for both
                    "transforms": {
                        "normalizer": {
                            "energy": {"mean": statistics.energy_mean, **width},
                            "forces": {"mean": 0.0, **width},
                        }
                    },
                },
                "val": {"src": str(path.parent.resolve())},
            },
            **short_training(len(frames), scale.batch_size, scale.steps["s2ef"]),
        },
        targets=(
            _energy_target("energy_mae", "adsorption energy", torch.tensor([data.y for data in frames])),
            Target("forces_mae", "forces", "eV/Å", "no force", float(forces.abs().mean())),
        ),
    )


def _is2re(slabs: DatasetFolder, scale: Scale) -> Task:
    energies = torch.tensor([data.y_relaxed for data in read_lmdb(slabs.is2re("train"))])
    return Task(
        name="is2re",
        title="IS2RE, direct",
        recipe="oc20/is2re_36M.yml",
        changes=_is2re_changes("is2re", slabs, scale),
        targets=(_energy_target("energy_mae", "relaxed energy", energies),),
    )


def _is2re_noisy_nodes(slabs: DatasetFolder, scale: Scale) -> Task:
    structures = list(read_lmdb(slabs.is2re("train")))
    moves = torch.cat([(data.pos_relaxed - data.pos)[data.fixed == 0] for data in structures])
    changes = _is2re_changes("is2re_noisy_nodes", slabs, scale)
    normalizer = changes["dataset"]["train"]["transforms"]["normalizer"]
    # the model sees corrupted structures, whose way to the relaxed one is longer
    normalizer["displacement"] = {"mean": 0.0, "rmsd": 0.3}
    metrics = {"energy": ["mae"], "displacement": ["mae"]}
    return Task(
        name="is2re_noisy_nodes",
        title="IS2RE + IS2RS, Noisy Nodes",
        recipe="oc20/is2re_95M_noisy_nodes.yml",
        changes={**changes, "evaluation_metrics": {"metrics": metrics}},
        targets=(
            _energy_target("energy_mae", "relaxed energy", torch.tensor([data.y_relaxed for data in structures])),
            Target("displacement_mae", "displacement", "Å", "no displacement", float(moves.abs().mean())),
        ),
    )


def _is2re_changes(name: str, slabs: DatasetFolder, scale: Scale) -> dict[str, Any]:
    path = slabs.is2re("train")
    energies = torch.tensor([data.y_relaxed for data in read_lmdb(path)])
    return {
        "model": {"backbone": {**NETWORK, "max_neighbors": SLAB_NEIGHBORS, **_sizes(path)}},
        "dataset": {
            "train": {
                "src": str(path.resolve()),
                "transforms": {
                    "normalizer": {"energy": {"mean": float(energies.mean()), "rmsd": float(energies.std())}}
                },
            },
            "val": {"src": str(path.resolve())},
        },
        **short_training(len(energies), scale.batch_size, scale.steps[name]),
    }


def _qm9(folder: Path, scale: Scale) -> Task:
    recipe = "qm9/U0_noisy_nodes.yml"
    references = load_config(find_config(Path(recipe)))[0]["dataset"]["train"]["transforms"]["element_references"]
    path, energies = write_molecules(folder, scale.molecules, references["property"]["elements"])
    energy = _energy_target("property_mae", "U0 less atoms", energies)
    return Task(
        name="qm9",
        title="QM9 layout, Noisy Nodes",
        recipe=recipe,
        changes={
            "model": {"backbone": {**NETWORK, **NARROW_BASIS, **_sizes(path)}},
            "dataset": {"train": {"src": str(path.resolve())}, "val": {"src": str(path.resolve())}},
            **short_training(len(energies), scale.batch_size, scale.steps["qm9"]),
        },
        targets=(
            energy,
            replace(energy, baseline="best energies per element", baseline_error=composition_error(path, energies)),
            Target(NOISE_ERROR, "noise on moved atoms", "σ", "no noise", math.sqrt(2 / math.pi)),
        ),
    )


def _energy_target(metric: str, label: str, energies: torch.Tensor) -> Target:
    return Target(metric, label, "eV", "mean energy", float((energies - energies.mean()).abs().mean()))


def _sizes(lmdb: Path) -> dict[str, float]:
    """What sums over atoms and edges are divided by."""
    sizes = read_metadata(lmdb.parent)
    return {"avg_num_nodes": float(sizes.natoms.mean()), "avg_degree": sizes.mean_degree}
