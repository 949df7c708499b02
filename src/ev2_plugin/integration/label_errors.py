"""Predictions beside the labels of the same structures, energies only where both may be of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from ev2_plugin.data.energy_kind import judge_energies
from ev2_plugin.data.references import CompositionFit
from ev2_plugin.integration.batch_prediction import Predicted
from ev2_plugin.integration.energy_kind import EnergyKind

_LABELS_OF = {"total": "total", "adsorption": "referenced", "referenced": "referenced"}
"""What labels of a model's kind of energy look like."""


@dataclass(frozen=True)
class LabelErrors:
    """Mean absolute errors.

    Attributes:
        num_energies: Structures with a labelled energy.
        energy: eV; None if there are no labels, or they are of another kind than the model's energies.
        note: What is to be said of the kinds; empty where they fit.
        num_forces: Structures with labelled forces.
        forces: Of the components of forces on free atoms, eV/Å; None if there are no labels.
    """

    num_energies: int
    energy: float | None
    note: str
    num_forces: int
    forces: float | None


def label_errors(structures: Sequence[Atoms], predicted: Sequence[Predicted], kind: EnergyKind) -> LabelErrors:
    """Compare predictions with what the structures' calculators hold.

    Args:
        structures: As they were read.
        predicted: Of each structure.
        kind: What the model's energies are.
    """
    energies, forces, compositions, per_atom = [], [], CompositionFit(), []
    for atoms, one in zip(structures, predicted, strict=True):
        energy, force = labels_of(atoms)
        if energy is not None:
            energies.append(abs(one.energy - energy))
            per_atom.append(abs(energy) / len(atoms))
            compositions.add(atoms.numbers, energy)
        if force is not None:
            forces.append(np.abs(one.forces - force)[free_atoms(atoms)])
    note = _judged(kind, compositions, float(np.mean(per_atom))) if energies else None
    components = np.concatenate([one.ravel() for one in forces]) if forces else np.empty(0)
    return LabelErrors(
        num_energies=len(energies),
        energy=float(np.mean(energies)) if note is not None and note[0] else None,
        note="" if note is None else note[1],
        num_forces=len(forces),
        forces=float(components.mean()) if components.size else None,
    )


def labels_of(atoms: Atoms) -> tuple[float | None, np.ndarray | None]:
    """Energy [eV] and forces [eV/Å] that a structure brought along; None for what it did not."""
    results = {} if atoms.calc is None else atoms.calc.results
    return results.get("energy"), results.get("forces")


def free_atoms(atoms: Atoms) -> np.ndarray:
    """Which atoms are not held by `FixAtoms`, [atoms]."""
    free = np.ones(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            free[constraint.index] = False
    return free


def _judged(kind: EnergyKind, compositions: CompositionFit, per_atom: float) -> tuple[bool, str]:
    """Whether energies are to be compared, and what is to be said of it."""
    expected = _LABELS_OF.get(kind.name)
    if compositions.num_structures < 2:
        return True, f"one label does not tell its kind of energy; the model predicts: {kind}"
    labels = judge_energies(compositions, per_atom)
    if expected is None or labels.name == "undecided":
        return True, f"it is not known whether both energies are of one kind. The model: {kind}. The labels: {labels}"
    if labels.name != expected:
        return False, f"energies are not compared, they are of different kinds. The model: {kind}. The labels: {labels}"
    return True, ""
