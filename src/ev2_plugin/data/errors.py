"""Errors of predictions against labels, beside those of a predictor that knows only the training set's mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from ase.geometry import find_mic
from torch_geometric.data import Data

from ev2_plugin.data.predictions import StructurePrediction
from ev2_plugin.data.statistics import TargetStatistics
from ev2_plugin.data.structures import periodicity, s2ef_labels


@dataclass(frozen=True)
class TargetComparison:
    """Labels and predictions of one quantity.

    Attributes:
        labels: Reference values, shape [values].
        predictions: The model's values, shape [values].
        mean_prediction: The value that the mean predictor gives every time.
    """

    labels: np.ndarray
    predictions: np.ndarray
    mean_prediction: float

    @property
    def mae(self) -> float:
        """Mean absolute error of the model."""
        return float(np.abs(self.predictions - self.labels).mean())

    @property
    def mean_predictor_mae(self) -> float:
        """Mean absolute error of the mean predictor."""
        return float(np.abs(self.mean_prediction - self.labels).mean())

    @property
    def ratio(self) -> float:
        """The model's error as a share of the mean predictor's."""
        return self.mae / self.mean_predictor_mae


@dataclass(frozen=True)
class S2EFComparison:
    """Labels and predictions of a dataset.

    Attributes:
        energy: Energies [eV], one value per structure.
        forces: Force components of the free atoms [eV/Å]; the mean predictor says 0.
        sids: System of each energy, shape [structures].
    """

    energy: TargetComparison
    forces: TargetComparison
    sids: np.ndarray


def compare_s2ef(
    structures: Iterable[Data],
    predictions: Mapping[str, StructurePrediction],
    training: TargetStatistics,
) -> S2EFComparison:
    """Set predictions beside the labels of the structures they belong to.

    Args:
        structures: Labelled data objects with `sid` and `fid`.
        predictions: Predictions by identifier, as `read_s2ef_predictions` returns them.
        training: Statistics of the training set, which the mean predictor repeats.

    Returns:
        Labels and predictions in the order of the structures.

    Raises:
        ValueError: If there are no structures, one has no prediction, or the numbers of free atoms differ.
    """
    energies, predicted_energies, forces, predicted_forces, sids = [], [], [], [], []
    for data in structures:
        name = f"{data.sid}_{data.fid}"
        if name not in predictions:
            raise ValueError(f"no prediction for structure {name} among {len(predictions)}")
        energy, all_forces = s2ef_labels(data, f"structure {name}")
        free = all_forces[data.fixed == 0].numpy()
        predicted = predictions[name]
        if predicted.free_forces.shape != free.shape:
            raise ValueError(f"structure {name}: {len(predicted.free_forces)} forces for {len(free)} free atoms")
        energies.append(energy)
        predicted_energies.append(predicted.energy)
        forces.append(free.ravel())
        predicted_forces.append(predicted.free_forces.ravel())
        sids.append(data.sid)
    if not sids:
        raise ValueError("no structures to compare")
    return S2EFComparison(
        energy=TargetComparison(np.array(energies), np.array(predicted_energies), training.energy_mean),
        forces=TargetComparison(np.concatenate(forces), np.concatenate(predicted_forces), 0.0),
        sids=np.array(sids),
    )


def mean_displacement(data: Data, positions: np.ndarray, reference: np.ndarray) -> float:
    """Average how far the free atoms of a structure lie from where they should.

    Args:
        data: The structure, for its cell and fixed atoms.
        positions: Positions [Å] of shape [atoms, 3]; whole cells between them and `reference` do not count.
        reference: Positions [Å] of shape [atoms, 3].

    Returns:
        The mean distance [Å] over the free atoms.

    Raises:
        ValueError: If a shape is not [atoms, 3] or all atoms are fixed.
    """
    for name, array in (("positions", positions), ("reference", reference)):
        if np.shape(array) != (data.natoms, 3):
            raise ValueError(f"{name} of system {data.sid}: shape {np.shape(array)}, not {(data.natoms, 3)}")
    free = data.fixed.numpy() == 0
    if not free.any():
        raise ValueError(f"system {data.sid} has no free atoms")
    difference = np.asarray(positions, dtype=float) - np.asarray(reference, dtype=float)
    distances = find_mic(difference, data.cell.numpy().reshape(3, 3), periodicity(data))[1]
    return float(distances[free].mean())
