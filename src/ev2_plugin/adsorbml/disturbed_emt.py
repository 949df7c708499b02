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
    """EMT plus waves over the surface that every atom of the adsorbate feels.

    The added energy of an atom at fractional coordinates `s` of the cell is `amplitude * cos(2 pi (n . s))`, summed
    over waves `n`; forces are its exact gradient. Two waves with as many crests as the cell has atoms along its vectors
    raise or lower all on-top sites of a surface alike.

    Args:
        amplitude: eV.
        waves: How many crests along each vector of the cell, for each wave.
    """

    def __init__(self, amplitude: float = 0.1, waves: Sequence[Sequence[int]] = ((1, 1, 0),), **keywords: Any) -> None:
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
        wave_vectors = 2 * np.pi * self.waves @ self.atoms.cell.reciprocal().array  # [waves, 3], 1/Å
        phases = self.atoms.positions[felt] @ wave_vectors.T  # [atoms, waves]
        added = self.amplitude * float(np.cos(phases).sum())
        forces = self.results["forces"].copy()
        forces[felt] += self.amplitude * np.sin(phases) @ wave_vectors
        energy = self.results["energy"] + added
        self.results.update(energy=energy, free_energy=energy, forces=forces)
