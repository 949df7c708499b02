"""ASE's calculator over a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators import calculator
from ase.stress import full_3x3_to_voigt_6_stress

from ev2_plugin.integration.energy_kind import EnergyKind
from ev2_plugin.integration.loading import load_potential
from ev2_plugin.integration.potential import HostModelPotential, ModelPotential
from ev2_plugin.potential.structures import from_atoms


class Calculator(calculator.Calculator):
    """Energies [eV], forces [eV/Å] and, if the model predicts it, stress [eV/Å^3] from a checkpoint.

    Forces are predicted directly; they are no derivative of the energy, so molecular dynamics does not conserve energy
    exactly. Positions are taken in float64: edges are found there, the model then computes in its weights' precision.

    Args:
        checkpoint: Written by fairchem's trainer or the plugin's.
        device: `auto` (CUDA if there is any), or a device of torch.
        trust: Whether the file comes from somebody trusted: then what it asks for is executed.

    Attributes:
        potential: The model.

    Raises:
        FileNotFoundError: If there is no such file.
        Refused: If the file holds more than data. Nothing was executed.
        ValueError: If weights, normalisers or references of the file are missing, left over or of another shape, or the
            device is not there.
    """

    name = "ev2_plugin"

    def __init__(self, checkpoint: str | Path, device: str = "auto", *, trust: bool = False) -> None:
        self._begin(load_potential(checkpoint, device, trust=trust), checkpoint)

    @classmethod
    def around(cls, potential: ModelPotential | HostModelPotential, checkpoint: str | Path) -> Calculator:
        """A calculator of a model that is loaded already.

        Args:
            potential: The model.
            checkpoint: Where it is from.
        """
        made = cls.__new__(cls)
        made._begin(potential, checkpoint)
        return made

    def _begin(self, potential: ModelPotential | HostModelPotential, checkpoint: str | Path) -> None:
        self.potential = potential
        super().__init__(checkpoint=str(checkpoint), device=str(potential.device), energy_kind=self.energy_kind.name)
        self.implemented_properties = [*potential.properties, "free_energy"]

    @property
    def energy_kind(self) -> EnergyKind:
        """What the energies are: total, referenced, adsorption energies, or unknown; and where that is known from."""
        return self.potential.energy_kind

    def __str__(self) -> str:
        return str(self.potential)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = calculator.all_changes,
    ) -> None:
        """Compute all properties of one structure, as ASE asks for it."""
        super().calculate(atoms, list(properties), list(system_changes))
        (self.results,) = self.batch([self.atoms])

    def batch(self, structures: Sequence[Atoms]) -> list[dict[str, Any]]:
        """Results of many structures in one evaluation, for each what ASE keeps in `results`.

        Neither the calculator's own `results` nor the structures change.

        Args:
            structures: As many as the memory holds; constraints are not looked at, as in `calculate`.

        Raises:
            ValueError: If a structure has no atoms, elements that the model does not know, coincident atoms or a
                singular cell.
        """
        if not structures:
            return []
        for number, atoms in enumerate(structures):
            if not len(atoms):
                raise ValueError(f"structure {number} has no atoms")
        bare = [
            Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, tags=atoms.get_tags())
            for atoms in structures
        ]
        batch = from_atoms(bare, [str(number) for number in range(len(bare))])
        found = self.potential.evaluate(batch, self.potential.properties)
        energies = found["energy"].flatten().tolist()
        forces = [part.cpu().numpy() for part in found["forces"].split([len(atoms) for atoms in bare])]
        results: list[dict[str, Any]] = [
            {"energy": energy, "free_energy": energy, "forces": force}
            for energy, force in zip(energies, forces, strict=True)
        ]
        if "stress" in found:
            for result, stress in zip(results, found["stress"].reshape(-1, 3, 3).cpu().numpy(), strict=True):
                result["stress"] = full_3x3_to_voigt_6_stress(stress)
        return results
