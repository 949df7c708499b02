"""Relaxed structures and energies beside those of the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch_geometric.data import Data

from ev2_plugin.data.errors import mean_displacement
from ev2_plugin.evaluation.catalogue import Catalogue, CatalogueBuilder, refuse, system_of
from ev2_plugin.evaluation.estimates import Tally
from ev2_plugin.evaluation.labels import relaxed_energy_label, relaxed_position_label
from ev2_plugin.evaluation.predictions import Energies
from ev2_plugin.evaluation.thresholds import (
    DISTANCE_THRESHOLDS,
    ENERGY_THRESHOLD,
    RELAXED_FORCE_THRESHOLD,
    RELAXED_FORCE_THRESHOLDS,
    average_below,
)


@dataclass(frozen=True)
class ScoredRelaxations:
    """All that the metrics of relaxations are computed from.

    Attributes:
        catalogue: The structures.
        distances: Mean distance of the free atoms of each from the reference, Å, [structures].
        energies: Energies of the relaxed structures, or None if none were predicted.
        largest_forces: Largest force on a free atom of each by the force oracle, eV/Å, [structures]; None without one.
    """

    catalogue: Catalogue
    distances: Float[np.ndarray, " structures"]
    energies: Energies | None
    largest_forces: Float[np.ndarray, " structures"] | None = None

    def with_forces(self, largest_forces: Float[np.ndarray, " structures"]) -> ScoredRelaxations:
        """Add what the force oracle says."""
        return replace(self, largest_forces=largest_forces)

    def tallies(self) -> dict[str, Tally]:
        """Give the quantities whose averages are the metrics, by the names in `definitions.DEFINITIONS`."""
        values: dict[str, np.ndarray] = {}
        if self.energies is not None:
            values["energy_mae"] = self.energies.errors
            values["energy_within_threshold"] = self.energies.errors < ENERGY_THRESHOLD
        values["distance"] = self.distances
        values["average_distance_within_threshold"] = average_below(self.distances, DISTANCE_THRESHOLDS)
        if self.largest_forces is not None:
            values["largest_force"] = self.largest_forces
            values["force_below_threshold"] = self.largest_forces < RELAXED_FORCE_THRESHOLD
            values["average_force_below_threshold"] = average_below(self.largest_forces, RELAXED_FORCE_THRESHOLDS)
        return {name: Tally.of_structures(value) for name, value in values.items()}


def score_relaxations(
    structures: Iterable[tuple[str, Data]],
    positions: Mapping[str, np.ndarray],
    energies: Mapping[str, float] | None,
    against: str,
    *,
    adsorbates: Mapping[str, str] | None = None,
    on_relaxed: Callable[[Data, np.ndarray], None] = lambda data, positions: None,
) -> ScoredRelaxations:
    """Set relaxed structures beside those of the reference.

    Args:
        structures: Where each lies, and the structure with `pos_relaxed` and, where there are energies,
            `energy_relaxed` or `y_relaxed`; read once.
        positions: Where relaxations ended, Å, [atoms, 3] by system.
        energies: Energies there, eV by system, or None.
        against: What the structures are read from, for messages.
        adsorbates: Names of adsorbates by system; by composition if None.
        on_relaxed: Called with each structure and the positions where its relaxation ended.

    Returns:
        Distances and energies in the order of the structures.

    Raises:
        ValueError: If there are no structures, their systems are not those of the relaxations, a label is missing, a
            number is not finite, or a structure has no free atoms or another number of atoms than was relaxed.
            Missing relaxations and such that are not finite are listed.
    """
    catalogue = CatalogueBuilder(adsorbates)
    distances: list[float] = []
    labels: list[float] = []
    predictions: list[float] = []
    missing: list[str] = []
    not_finite: list[str] = []
    for place, data in structures:
        name = system_of(data)
        catalogue.add(name, data)
        if name not in positions or (energies is not None and name not in energies):
            missing.append(name)
            continue
        if not np.isfinite(positions[name]).all() or (energies is not None and not np.isfinite(energies[name])):
            not_finite.append(name)
            continue
        distances.append(mean_displacement(data, positions[name], relaxed_position_label(data, place)))
        if energies is not None:
            labels.append(relaxed_energy_label(data, place))
            predictions.append(energies[name])
        on_relaxed(data, positions[name])
    found = catalogue.build(against)
    known = set(found.ids.tolist())
    refuse("structures have no relaxation or no relaxed energy", missing)
    unknown = [name for name in {**positions, **(energies or {})} if name not in known]
    refuse(f"relaxations have no structure in {against}", unknown)
    refuse("relaxations are not finite", not_finite)
    return ScoredRelaxations(
        catalogue=found,
        distances=np.array(distances),
        energies=None if energies is None else Energies(np.array(labels), np.array(predictions)),
    )
