"""Do labels look like eV and eV/Å? What no unit error can survive is an error, what may be one a warning."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from ase.neighborlist import neighbor_list

LARGEST_FORCE = 1000.0
"""Force component [eV/Å] beyond which a label is refused; relaxations stay below 50."""

LARGEST_POSITIVE_ENERGY = 100.0
"""Energy per atom [eV] beyond which a positive label is refused: atoms would fly apart."""

COINCIDENT = 0.01
"""Atoms closer than this [Å] are one atom written twice; the model refuses them."""

LARGEST_STEP = 0.2
"""Distance [Å] over which the force between two frames is taken to be linear."""

_THOMAS_FERMI = 20.92  # eV: an all-electron atom has about -20.92 Z^(7/3) eV; the hydrogen atom -13.6

_UNITS = {
    1 / 27.2114: "energies in Hartree beside forces in eV/Å",
    1 / 13.6057: "energies in Rydberg beside forces in eV/Å",
    23.0605: "energies in kcal/mol beside forces in eV/Å",
    96.485: "energies in kJ/mol beside forces in eV/Å",
    1000.0: "energies in meV beside forces in eV/Å",
    1 / 0.529177: "energies in Hartree beside forces in Hartree/Bohr",
    27.2114 / 0.529177: "energies in eV beside forces in Hartree/Bohr",
    -1.0: "gradients in place of forces (the sign is turned)",
}


def check_labels(numbers: np.ndarray, energy: float | None, forces: np.ndarray | None) -> None:
    """Refuse labels that cannot be eV and eV/Å.

    Args:
        numbers: Atomic numbers, shape [atoms].
        energy: Energy as given.
        forces: Forces as given, shape [atoms, 3].

    Raises:
        ValueError: If a label is not finite, a force is over 1000, the energy is above 100 per atom or below twice
            the energy of the all-electron atoms.
    """
    if energy is not None:
        if not np.isfinite(energy):
            raise ValueError(f"the energy is {energy}")
        lowest = -2.0 * _THOMAS_FERMI * float(np.sum(numbers.astype(float) ** (7 / 3)))
        highest = LARGEST_POSITIVE_ENERGY * len(numbers)
        if not lowest <= energy <= highest:
            raise ValueError(
                f"the energy {energy:g} is no energy in eV: {len(numbers)} such atoms have between {lowest:.4g} (twice "
                f"that of all their electrons) and {highest:g} eV; convert it"
            )
    if forces is not None:
        if not np.isfinite(forces).all():
            atom = int(np.flatnonzero(~np.isfinite(forces).all(axis=-1))[0])
            raise ValueError(f"the force on atom {atom} is {forces[atom].tolist()}")
        largest = float(np.abs(forces).max(initial=0.0))
        if largest > LARGEST_FORCE:
            raise ValueError(
                f"a force component is {largest:.4g}: over {LARGEST_FORCE:g} eV/Å atoms overlap or the unit is another"
            )


def check_cell(atoms: Atoms) -> None:
    """Refuse periodic directions that do not span a cell.

    Raises:
        ValueError: If a lattice vector of a periodic direction is zero or depends on others.
    """
    rows = atoms.cell.array[atoms.pbc]
    lengths = np.linalg.norm(rows, axis=1)
    # the volume that they span, beside that of a rectangular cell
    if len(rows) and not np.sqrt(max(np.linalg.det(rows @ rows.T), 0.0)) > 1e-6 * lengths.prod():
        raise ValueError(
            f"the cell {atoms.cell.array.tolist()} is singular for its periodic directions {atoms.pbc.tolist()}"
        )


def check_distances(atoms: Atoms) -> None:
    """Refuse atoms that were written twice.

    Args:
        atoms: A structure with finite positions.

    Raises:
        ValueError: If two atoms, or an atom and an image, are closer than 0.01 Å.
    """
    first, second = neighbor_list("ij", atoms, COINCIDENT)
    if len(first):
        raise ValueError(f"atoms {first[0]} and {second[0]} lie in the same place")


@dataclass
class WorkBalance:
    """Energy differences between neighbouring frames beside the work of the forces, which they should equal.

    Attributes:
        work_energy: Sum of work times energy difference.
        work_work: Sum of squared work.
        energy_energy: Sum of squared energy differences.
        pairs: Pairs of frames taken in.
    """

    work_energy: float = 0.0
    work_work: float = 0.0
    energy_energy: float = 0.0
    pairs: int = 0

    def add(self, work: float, difference: float) -> None:
        """Take in one pair of frames: the work [Å times the forces' unit] and what the energy fell by."""
        self.work_energy += work * difference
        self.work_work += work * work
        self.energy_energy += difference * difference
        self.pairs += 1

    def merge(self, other: WorkBalance) -> None:
        """Take in the pairs of other files."""
        self.work_energy += other.work_energy
        self.work_work += other.work_work
        self.energy_energy += other.energy_energy
        self.pairs += other.pairs

    def verdict(self) -> str | None:
        """Say which units the labels seem to have, or None if they agree or the frames do not tell.

        Frames tell if at least five pairs lie on one line (correlation over 0.98). Its slope is then the unit of
        the energies over that of force times Å; within 20 % of 1 all is well.
        """
        if self.pairs < 5 or self.work_work == 0 or self.energy_energy == 0:
            return None
        slope = self.work_energy / self.work_work
        correlation = self.work_energy / sqrt(self.work_work * self.energy_energy)
        if abs(correlation) < 0.98 or abs(slope - 1) < 0.2:
            return None
        names = [name for ratio, name in _UNITS.items() if abs(slope / ratio - 1) < 0.05]
        return (
            f"energies change {slope:.4g} times as much as the forces' work over {self.pairs} steps: "
            f"{names[0] if names else 'their units do not fit together'}"
        )


def work_of_step(displacement: np.ndarray, forces: np.ndarray, cell: np.ndarray, periodic: np.ndarray) -> float | None:
    """Work of the forces along a small step.

    Args:
        displacement: From one frame to the next [Å], shape [atoms, 3]; whole cells do not count.
        forces: Mean of the forces at both ends, shape [atoms, 3].
        cell: Cell vectors as rows [Å].
        periodic: Three flags.

    Returns:
        The sum of force times displacement; None if an atom moves further than 0.2 Å, or none moves.
    """
    vectors, lengths = find_mic(displacement, cell, periodic)
    if not 0 < lengths.max() <= LARGEST_STEP:
        return None
    return float((forces * vectors).sum())
