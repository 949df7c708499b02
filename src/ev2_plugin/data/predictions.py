"""Files that the trainers write: EvalAI-style predictions, relaxed positions and energies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ev2_plugin.storage.plain_files import read_arrays
from ev2_plugin.storage.safe_pickle import reading


@dataclass(frozen=True)
class StructurePrediction:
    """What a model says about one structure.

    Attributes:
        energy: Energy [eV], referenced like the training labels.
        free_forces: Forces on the free atoms [eV/Å], shape [free atoms, 3].
    """

    energy: float
    free_forces: np.ndarray


def read_s2ef_predictions(path: Path) -> dict[str, StructurePrediction]:
    """Read the predictions of energies and forces.

    Args:
        path: `*_predictions.npz` with `ids`, `energy`, `forces` (free atoms only) and `chunk_idx`.

    Returns:
        Predictions by identifier, `<sid>_<fid>`.

    Raises:
        ValueError: If an array is missing, the arrays count different numbers of structures, or an identifier repeats.
    """
    arrays = read_arrays(path)
    _require(path, arrays, ("ids", "energy", "forces", "chunk_idx"))
    with reading(path):
        ids, energies = arrays["ids"], arrays["energy"].reshape(-1)
        forces = np.split(arrays["forces"].astype(float), arrays["chunk_idx"])
    if not len(ids) == len(energies) == len(forces):
        raise ValueError(f"{path}: {len(ids)} ids, {len(energies)} energies, {len(forces)} force arrays")
    _refuse_repeated(path, ids)
    return {
        str(name): StructurePrediction(energy=float(energy), free_forces=free_forces)
        for name, energy, free_forces in zip(ids, energies, forces, strict=True)
    }


def read_energies(path: Path) -> dict[str, float]:
    """Read energies alone: predictions of a model without forces, or energies of relaxed structures.

    Args:
        path: A file with `ids` and `energy`; other arrays do not matter.

    Returns:
        Energies [eV] by identifier.

    Raises:
        ValueError: If an array is missing, the arrays count different numbers of structures, or an identifier repeats.
    """
    arrays = read_arrays(path)
    _require(path, arrays, ("ids", "energy"))
    ids, energies = arrays["ids"], arrays["energy"].reshape(-1)
    if len(ids) != len(energies):
        raise ValueError(f"{path}: {len(ids)} ids, {len(energies)} energies")
    _refuse_repeated(path, ids)
    return {str(name): float(energy) for name, energy in zip(ids, energies, strict=True)}


def has_forces(path: Path) -> bool:
    """Whether a file of predictions holds forces."""
    return "forces" in read_arrays(path)


def read_relaxed_positions(path: Path) -> dict[str, np.ndarray]:
    """Read the positions at which relaxations ended.

    Args:
        path: `relaxed_positions.npz` with `ids`, `pos` (all atoms) and `chunk_idx`.

    Returns:
        Positions [Å] of shape [atoms, 3] by system identifier.

    Raises:
        ValueError: If an array is missing, the arrays count different numbers of systems, or an identifier repeats.
    """
    arrays = read_arrays(path)
    _require(path, arrays, ("ids", "pos", "chunk_idx"))
    with reading(path):
        ids = arrays["ids"]
        positions = np.split(arrays["pos"].astype(float), arrays["chunk_idx"])
    if len(ids) != len(positions):
        raise ValueError(f"{path}: {len(ids)} ids, {len(positions)} sets of positions")
    _refuse_repeated(path, ids)
    return {str(name): pos for name, pos in zip(ids, positions, strict=True)}


def _require(path: Path, arrays: Mapping[str, np.ndarray], names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")


def _refuse_repeated(path: Path, ids: np.ndarray) -> None:
    repeated = [str(name) for name, count in Counter(ids.tolist()).items() if count > 1]
    if repeated:
        raise ValueError(f"{path} names {len(repeated)} structures more than once: {', '.join(repeated[:10])}")
