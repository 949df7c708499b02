"""Averages over all structures and over each group of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from ev2_plugin.evaluation.catalogue import Catalogue
from ev2_plugin.evaluation.estimates import Estimate, Tally, estimate
from ev2_plugin.evaluation.predictions import FreeForces, ScoredPredictions
from ev2_plugin.evaluation.relaxations import ScoredRelaxations

NATOMS_EDGES = (25.0, 50.0, 75.0, 100.0, 150.0, 200.0)
FORCE_EDGES = (0.03, 0.1, 0.3, 1.0, 3.0)  # eV/Å

Groups = dict[str, dict[str, Estimate]]


@dataclass(frozen=True)
class Evaluation:
    """All averages of an evaluation.

    Attributes:
        subject: "predictions" or "relaxations".
        structures: How many were evaluated.
        systems: How many systems they are of.
        metrics: Averages over all, by the names in `definitions.DEFINITIONS`.
        breakdowns: The same by group, for each way to group: `element`, `adsorbate`, `atoms`, `force`.
    """

    subject: str
    structures: int
    systems: int
    metrics: dict[str, Estimate]
    breakdowns: dict[str, Groups]


def evaluate_predictions(scored: ScoredPredictions) -> Evaluation:
    """Average over predictions.

    By element, `energy_mae` is over the structures that contain it, and force errors are over its atoms.
    """
    tallies = scored.tallies()
    evaluation = _evaluation("predictions", scored.catalogue, tallies)
    if scored.forces is not None:
        forces, systems = scored.forces, scored.catalogue.systems
        by_element, by_force = evaluation.breakdowns["element"], {}
        for number in scored.catalogue.elements:
            chosen = _force_estimates(forces, forces.numbers == number, systems)
            overall = by_element[chemical_symbols[number]]
            by_element[chemical_symbols[number]] = {
                name: value for name, value in overall.items() if not name.startswith("forces_")
            } | chosen
        lengths = np.linalg.norm(forces.labels, axis=1)
        for label, atoms in _ranges(lengths, FORCE_EDGES, " eV/Å"):
            by_force[label] = _force_estimates(forces, atoms, systems)
        evaluation.breakdowns["force"] = by_force
    return evaluation


def evaluate_relaxations(scored: ScoredRelaxations) -> Evaluation:
    """Average over relaxations; by element, all averages are over the structures that contain it."""
    return _evaluation("relaxations", scored.catalogue, scored.tallies())


def _evaluation(subject: str, catalogue: Catalogue, tallies: Mapping[str, Tally]) -> Evaluation:
    systems = catalogue.systems
    groupings = {
        "element": [(chemical_symbols[number], catalogue.contains[:, number]) for number in catalogue.elements],
        "adsorbate": [(str(name), catalogue.adsorbates == name) for name in np.unique(catalogue.adsorbates)],
        "atoms": list(_ranges(catalogue.natoms, NATOMS_EDGES, "")),
    }
    return Evaluation(
        subject=subject,
        structures=len(catalogue.ids),
        systems=len(np.unique(systems)),
        metrics=_estimates(tallies, systems),
        breakdowns={
            name: {label: _estimates(tallies, systems, chosen) for label, chosen in groups}
            for name, groups in groupings.items()
        },
    )


def _estimates(
    tallies: Mapping[str, Tally], systems: np.ndarray, chosen: np.ndarray | None = None
) -> dict[str, Estimate]:
    found = {name: estimate(tally, systems, chosen) for name, tally in tallies.items()}
    return {name: value for name, value in found.items() if value is not None}


def _force_estimates(forces: FreeForces, atoms: np.ndarray, systems: np.ndarray) -> dict[str, Estimate]:
    chosen = forces.select(atoms)
    return _estimates(chosen.tallies(), systems)


def _ranges(values: np.ndarray, edges: Sequence[float], unit: str) -> Iterator[tuple[str, np.ndarray]]:
    """Ranges that hold some of the values: each includes its lower edge and not its upper."""
    bins = np.digitize(values, edges)
    labels = [
        f"below {edges[0]:g}{unit}",
        *(f"{low:g} to {high:g}{unit}" for low, high in zip(edges, edges[1:], strict=False)),
        f"from {edges[-1]:g}{unit}",
    ]
    for index, label in enumerate(labels):
        chosen = bins == index
        if chosen.any():
            yield label, chosen
