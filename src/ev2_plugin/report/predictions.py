"""Predictions beside labels: parity, the worst structures to look at, errors by element and by force."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch_geometric.data import Data

from ev2_plugin.data.predictions import has_forces, read_energies, read_s2ef_predictions
from ev2_plugin.data.stored import dataset_files, followed_samples, read_chosen
from ev2_plugin.data.structures import data_to_structure
from ev2_plugin.evaluation.breakdowns import evaluate_predictions
from ev2_plugin.evaluation.predictions import FreeForces, ScoredPredictions, score_predictions
from ev2_plugin.report.error_breakdowns import breakdown_section, metrics_table
from ev2_plugin.report.parity import outside, parity_plot
from ev2_plugin.report.parts import Beside, Cell, Note, ParityPlot, Part, Plots, Section, Show, Table, Viewer
from ev2_plugin.report.structures import packed

VIEWER = "predictions"


def prediction_sections(
    file: Path, against: Path, *, worst: int, on_progress: Callable[[str, int, int], None]
) -> list[Section]:
    """Compare predictions with labels.

    Args:
        file: As `ev2 evaluate predictions` takes it.
        against: LMDB or ASE database with the labels, or a folder of them.
        worst: How many structures with the largest errors can be looked at, of energies and of forces each.
        on_progress: Called with a stage, what is done of it and all of it.

    Raises:
        FileNotFoundError: If one of the two does not exist.
        ValueError: As `score_predictions`.
    """
    predicted = read_s2ef_predictions(file) if has_forces(file) else read_energies(file)
    files = dataset_files(against)
    scored = score_predictions(followed_samples(files, on_progress), predicted, str(against))
    evaluation = evaluate_predictions(scored)
    by_energy = _largest(scored.energies.errors, worst)
    by_force = [] if scored.forces is None else _largest(scored.forces.largest_errors, worst)
    plots = [_energy_parity(scored, by_energy)]
    if scored.forces is not None:
        plots.append(_force_parity(scored.forces, scored.catalogue.ids, by_force))
    chosen = list(dict.fromkeys([*by_energy, *by_force]))
    structures = {
        str(scored.catalogue.ids[number]): _structure(data, scored, number)
        for number, data in zip(chosen, read_chosen(files, chosen), strict=True)
    }
    tables: list[Part] = [_worst_energies(scored, by_energy, structures)]
    if scored.forces is not None:
        tables.append(_worst_forces(scored.forces, scored.catalogue.ids, by_force, structures))
    viewer = Viewer(VIEWER, "Structures with the largest errors", structures)
    parity = Section(
        "parity",
        "Predictions and labels",
        (
            Note(f"{file} against {against}."),
            Plots(tuple(plots)),
            *_outside_notes(scored, plots),
            Beside((viewer,), tuple(tables)),
            metrics_table(evaluation),
        ),
    )
    return [parity, breakdown_section(evaluation)]


def _largest(errors: np.ndarray, number: int) -> list[int]:
    return np.argsort(-errors, kind="stable")[:number].tolist()


def _energy_parity(scored: ScoredPredictions, worst: Sequence[int]) -> ParityPlot:
    energies, ids = scored.energies, scored.catalogue.ids
    return parity_plot(
        "parity-energy",
        energies.labels,
        energies.predictions,
        quantity="energy",
        unit="eV",
        members="energies",
        worst=[(float(energies.labels[one]), float(energies.predictions[one]), str(ids[one])) for one in worst],
        viewer=VIEWER,
    )


def _force_parity(forces: FreeForces, ids: np.ndarray, worst: Sequence[int]) -> ParityPlot:
    points = []
    for number in worst:
        atoms = _atoms_of(forces, number)
        atom, axis = np.unravel_index(forces.errors[atoms].argmax(), forces.errors[atoms].shape)
        label, prediction = forces.labels[atoms][atom, axis], forces.predictions[atoms][atom, axis]
        points.append((float(label), float(prediction), str(ids[number])))
    return parity_plot(
        "parity-forces",
        forces.labels.ravel(),
        forces.predictions.ravel(),
        quantity="force component",
        unit="eV/Å",
        members="force components on free atoms",
        worst=points,
        viewer=VIEWER,
    )


def _atoms_of(forces: FreeForces, number: int) -> slice:
    """Free atoms of a structure: they stand one structure after the other."""
    start, end = np.searchsorted(forces.structure, [number, number + 1])
    return slice(int(start), int(end))


def _structure(data: Data, scored: ScoredPredictions, number: int) -> dict[str, Any]:
    atoms = data_to_structure(data)
    label, prediction = scored.energies.labels[number], scored.energies.predictions[number]
    text = (
        f"{scored.catalogue.ids[number]}: {atoms.get_chemical_formula()}, {len(atoms)} atoms, energy {label:.3f} eV, "
        f"predicted {prediction:.3f} eV"
    )
    if scored.forces is None:
        return packed([atoms], [text])
    free, chosen = data.fixed.numpy() == 0, _atoms_of(scored.forces, number)
    label_forces, predicted_forces = np.zeros((2, len(atoms), 3))
    label_forces[free], predicted_forces[free] = scored.forces.labels[chosen], scored.forces.predictions[chosen]
    text += f"; largest error of a force component {scored.forces.largest_errors[number]:.3f} eV/Å"
    return packed([atoms], [text], forces=(label_forces, predicted_forces))


def _worst_energies(scored: ScoredPredictions, worst: Sequence[int], structures: dict[str, Any]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for number in worst:
        name, energies = str(scored.catalogue.ids[number]), scored.energies
        label, prediction = float(energies.labels[number]), float(energies.predictions[number])
        rows.append((Show(VIEWER, name, name), _atom_count(structures[name]), label, prediction, prediction - label))
    columns = ("structure", "atoms", "label [eV]", "prediction [eV]", "error [eV]")
    return Table("Largest energy errors", columns, tuple(rows), tall=True)


def _worst_forces(forces: FreeForces, ids: np.ndarray, worst: Sequence[int], structures: dict[str, Any]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for number in worst:
        name = str(ids[number])
        errors = forces.errors[_atoms_of(forces, number)]
        rows.append(
            (Show(VIEWER, name, name), _atom_count(structures[name]), float(errors.max()), float(errors.mean()))
        )
    columns = ("structure", "atoms", "largest error [eV/Å]", "MAE [eV/Å]")
    return Table("Largest errors of a force component", columns, tuple(rows), tall=True)


def _atom_count(structure: dict[str, Any]) -> int:
    return len(structure["symbols"])


def _outside_notes(scored: ScoredPredictions, plots: Sequence[ParityPlot]) -> Iterator[Note]:
    values = [(scored.energies.labels, scored.energies.predictions)]
    if scored.forces is not None:
        values.append((scored.forces.labels.ravel(), scored.forces.predictions.ravel()))
    for plot, (labels, predictions) in zip(plots, values, strict=True):
        count = outside(plot, labels, predictions)
        if count:
            yield Note(
                f"{count:,} of {len(labels):,} {plot.members} lie outside of the axes, which are those of nearly all; "
                "the worst are points all the same, which a double click on the plot brings into view."
            )
