"""Any ASE calculator as a potential: EMT in tests and demos, DFT where one has it."""

from __future__ import annotations

import torch
from ase.calculators.calculator import BaseCalculator

from ev2_plugin.potential.protocol import Prediction
from ev2_plugin.potential.structures import Structures, to_atoms


class CalculatorPotential:
    """One structure after the other through an ASE calculator.

    Args:
        calculator: It gives energies in eV and forces in eV/Å.
    """

    def __init__(self, calculator: BaseCalculator) -> None:
        self.calculator = calculator
        self.calls = 0

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def __call__(self, structures: Structures) -> Prediction:
        """Energies and forces in float64."""
        energies, forces = [], []
        for atoms in to_atoms(structures):
            atoms.calc = self.calculator
            energies.append(float(atoms.get_potential_energy()))
            forces.append(torch.as_tensor(atoms.get_forces(apply_constraint=False), dtype=torch.float64))
            self.calls += 1
        return Prediction(torch.tensor(energies, dtype=torch.float64), torch.cat(forces))

    def num_edges(self, structures: Structures) -> list[int]:
        """Atoms of each structure."""
        return structures.natoms.tolist()
