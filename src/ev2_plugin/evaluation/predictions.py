"""Predicted energies and forces beside their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from torch_geometric.data import Data

from ev2_plugin.data.predictions import StructurePrediction
from ev2_plugin.evaluation.catalogue import Catalogue, CatalogueBuilder, identifier_of, refuse
from ev2_plugin.evaluation.estimates import Tally
from ev2_plugin.evaluation.labels import energy_label, force_label
from ev2_plugin.evaluation.thresholds import ENERGY_THRESHOLD, energies_and_forces_below

SMALLEST_NORM = 1e-8  # eV/Å; below it a force has no direction


@dataclass(frozen=True)
class Energies:
    """Energies of structures.

    Attributes:
        labels: eV, [structures].
        predictions: eV, [structures].
    """

    labels: Float[np.ndarray, " structures"]
    predictions: Float[np.ndarray, " structures"]

    @property
    def errors(self) -> Float[np.ndarray, " structures"]:
        """Absolute errors, eV."""
        return np.abs(self.predictions - self.labels)


@dataclass(frozen=True)
class FreeForces:
    """Forces on the free atoms of all structures, one structure after the other.

    Attributes:
        labels: eV/Å, [atoms, 3].
        predictions: eV/Å, [atoms, 3].
        structure: Number of the structure of each atom, [atoms].
        numbers: Atomic numbers, [atoms].
        num_structures: How many structures there are.
    """

    labels: Float[np.ndarray, "atoms 3"]
    predictions: Float[np.ndarray, "atoms 3"]
    structure: Int[np.ndarray, " atoms"]
    numbers: Int[np.ndarray, " atoms"]
    num_structures: int

    @property
    def errors(self) -> Float[np.ndarray, "atoms 3"]:
        """Absolute errors of the components, eV/Å."""
        return np.abs(self.predictions - self.labels)

    @property
    def largest_errors(self) -> Float[np.ndarray, " structures"]:
        """Largest absolute error among the components of each structure, eV/Å."""
        largest = np.zeros(self.num_structures)
        np.maximum.at(largest, self.structure, self.errors.max(axis=1))
        return largest

    @property
    def cosines(self) -> Float[np.ndarray, " atoms"]:
        """Cosine of the angle between predicted and true force; 0 where one of them vanishes."""
        lengths = [
            np.maximum(np.linalg.norm(forces, axis=1), SMALLEST_NORM) for forces in (self.labels, self.predictions)
        ]
        return np.einsum("ax,ax->a", self.labels, self.predictions) / (lengths[0] * lengths[1])

    @property
    def length_errors(self) -> Float[np.ndarray, " atoms"]:
        """Absolute errors of the lengths of the forces, eV/Å."""
        return np.abs(np.linalg.norm(self.predictions, axis=1) - np.linalg.norm(self.labels, axis=1))

    def select(self, atoms: Bool[np.ndarray, " atoms"]) -> FreeForces:
        """Some of the atoms; structures keep their numbers."""
        return FreeForces(
            self.labels[atoms], self.predictions[atoms], self.structure[atoms], self.numbers[atoms], self.num_structures
        )

    def tallies(self) -> dict[str, Tally]:
        """Give the averages over atoms, by the names in `definitions.DEFINITIONS`."""
        values = {
            "forces_mae": (self.errors.sum(axis=1), 3),
            "forces_cosine": (self.cosines, 1),
            "forces_magnitude_error": (self.length_errors, 1),
        }
        return {
            name: Tally.of_atoms(sums, self.structure, self.num_structures, members=members)
            for name, (sums, members) in values.items()
        }


@dataclass(frozen=True)
class ScoredPredictions:
    """All that the metrics of predictions are computed from.

    Attributes:
        catalogue: The structures.
        energies: Their energies.
        forces: Forces on their free atoms, or None for a model that predicts none.
    """

    catalogue: Catalogue
    energies: Energies
    forces: FreeForces | None

    def tallies(self) -> dict[str, Tally]:
        """Give the quantities whose averages are the metrics, by the names in `definitions.DEFINITIONS`."""
        errors = self.energies.errors
        found = {
            "energy_mae": Tally.of_structures(errors),
            "energy_within_threshold": Tally.of_structures(errors < ENERGY_THRESHOLD),
        }
        if self.forces is None:
            return found
        return {
            **found,
            **self.forces.tallies(),
            "energy_forces_within_threshold": Tally.of_structures(
                energies_and_forces_below(errors, self.forces.largest_errors)
            ),
        }


def score_predictions(
    structures: Iterable[tuple[str, Data]],
    predictions: Mapping[str, StructurePrediction] | Mapping[str, float],
    against: str,
    *,
    adsorbates: Mapping[str, str] | None = None,
    on_structure: Callable[[], None] = lambda: None,
) -> ScoredPredictions:
    """Set predictions beside the labels of the structures they are of.

    Args:
        structures: Where each lies, and the labelled structure; read once.
        predictions: By identifier: energies and forces, or energies alone.
        against: What the structures are read from, for messages.
        adsorbates: Names of adsorbates by system; by composition if None.
        on_structure: Called after each structure.

    Returns:
        Labels and predictions in the order of the structures.

    Raises:
        ValueError: If there are no structures, their identifiers are not those of the predictions, a label is missing,
            a number is not finite, or a structure has no free atoms or another number of them than its prediction.
            Missing predictions and such that are not finite are listed.
    """
    catalogue = CatalogueBuilder(adsorbates)
    energy_labels: list[float] = []
    energy_predictions: list[float] = []
    forces: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    missing: list[str] = []
    not_finite: list[str] = []
    for place, data in structures:
        name = identifier_of(data)
        catalogue.add(name, data)
        on_structure()
        if name not in predictions:
            missing.append(name)
            continue
        predicted = predictions[name]
        energy = predicted if isinstance(predicted, float) else predicted.energy
        energy_labels.append(energy_label(data, place))
        energy_predictions.append(energy)
        finite = np.isfinite(energy)
        if not isinstance(predicted, float):
            free = data.fixed.numpy() == 0
            forces.append(_free_forces(data, predicted.free_forces, free, f"structure {name}", place))
            finite = finite and np.isfinite(predicted.free_forces).all()
        if not finite:
            not_finite.append(name)
    found = catalogue.build(against)
    known = set(found.ids.tolist())
    refuse("structures have no prediction", missing)
    refuse(f"predictions have no structure in {against}", [name for name in predictions if name not in known])
    refuse("predictions are not finite", not_finite)
    return ScoredPredictions(
        catalogue=found,
        energies=Energies(np.array(energy_labels), np.array(energy_predictions)),
        forces=_joined(forces) if forces else None,
    )


def _free_forces(
    data: Data, predicted: np.ndarray, free: np.ndarray, name: str, place: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions and atomic numbers of free atoms."""
    count = int(free.sum())
    if count == 0:
        raise ValueError(f"{name} has no free atoms, so its forces cannot be judged")
    if predicted.shape != (count, 3):
        raise ValueError(f"{name}: predicted forces of shape {predicted.shape} for {count} free atoms")
    return force_label(data, place)[free], predicted, data.atomic_numbers.long().numpy()[free]


def _joined(forces: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> FreeForces:
    labels, predictions, numbers = zip(*forces, strict=True)
    return FreeForces(
        labels=np.concatenate(labels).astype(float),
        predictions=np.concatenate(predictions).astype(float),
        structure=np.repeat(np.arange(len(forces)), [len(one) for one in numbers]),
        numbers=np.concatenate(numbers),
        num_structures=len(forces),
    )
