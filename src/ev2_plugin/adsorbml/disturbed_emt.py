"""A stand-in for a model in demos and tests: ASE's EMT, wrong by a known and smooth amount."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_changes
from ase.calculators.emt import EMT

from ev2_plugin.adsorbml.surface_system import ADSORBATE_TAG


class DisturbedEMT(EMT):
    """EMT plus a wave over the surface that every atom of the adsorbate feels.

    The added energy of an atom at fractional coordinates `s` of the cell is `amplitude * cos(2 pi (n . s))`; forces are
    its exact gradient.

    Args:
        amplitude: eV.
        waves: `n`, how many along each vector of the cell.
    """

    def __init__(self, amplitude: float = 0.1, waves: Sequence[int] = (1, 1, 0), **keywords: Any) -> None:
        super().__init__(**keywords)
        self.amplitude, self.waves = amplitude, np.array(waves)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: list[str] = all_changes,
    ) -> None:
        """Energies in eV, forces in eV/Å; an adsorbate without cell feels no wave."""
        super().calculate(atoms, properties, system_changes)
        felt = np.flatnonzero(self.atoms.get_tags() == ADSORBATE_TAG)
        if self.atoms.cell.rank < 3:
            return
        wave_vector = 2 * np.pi * self.atoms.cell.reciprocal().array.T @ self.waves  # 1/Å
        phases = self.atoms.positions[felt] @ wave_vector
        added = self.amplitude * float(np.cos(phases).sum())
        forces = self.results["forces"].copy()
        forces[felt] += self.amplitude * np.sin(phases)[:, None] * wave_vector
        energy = self.results["energy"] + added
        self.results.update(energy=energy, free_energy=energy, forces=forces)
