"""Potentials for tests of relaxations: known minima, and faults on demand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from ev2_plugin.potential.ase_calculator import CalculatorPotential
from ev2_plugin.potential.protocol import Prediction
from ev2_plugin.potential.structures import Structures


class Wells:
    """Each atom in an anharmonic well of its own at the origin of its element's lattice site: the minimum is known.

    E = sum k |r|^2 / 2 + c |r|^4 / 4, with k growing with the atomic number, so that structures differ in steps.
    """

    def __init__(self, before: Callable[[Structures], None] = lambda structures: None, device: str = "cpu") -> None:
        self.before, self.on = before, torch.device(device)
        self.batches: list[tuple[str, ...]] = []

    @property
    def device(self) -> torch.device:
        return self.on

    def __call__(self, structures: Structures) -> Prediction:
        assert structures.positions.device.type == self.on.type
        self.batches.append(structures.ids)
        self.before(structures)
        r = structures.positions.double()
        k = structures.atomic_numbers.double().unsqueeze(-1) * r.new_tensor([0.1, 0.4, 1.0])
        squared = (r * r).sum(dim=-1, keepdim=True)
        energy = (0.5 * k * r * r).sum(dim=-1) + squared[:, 0] ** 2 / 4
        total = r.new_zeros(len(structures)).index_add(0, structures.batch, energy)
        return Prediction(total, -(k * r + squared * r))

    def num_edges(self, structures: Structures) -> list[int]:
        return (2 * structures.natoms).tolist()


def scattered(count: int, seed: int = 0) -> list[Atoms]:
    """Structures of 1 to 4 atoms around the origin, light and heavy ones; each third has a fixed atom."""
    generator = np.random.default_rng(seed)
    found = []
    for index in range(count):
        natoms = 1 + index % 4
        atoms = Atoms(
            numbers=generator.integers(1, 30, natoms), positions=generator.normal(size=(natoms, 3)), cell=[9, 9, 9]
        )
        if index % 3 == 2 and natoms > 1:
            atoms.set_constraint(FixAtoms(indices=[0]))
        found.append(atoms)
    return found


def rough_slabs(count: int, seed: int = 0) -> list[Atoms]:
    """Small slabs with C or O, shaken, the lowest layer fixed: EMT knows their elements."""
    generator = np.random.default_rng(seed)
    found = []
    for index in range(count):
        slab = fcc111(("Cu", "Pt", "Pd")[index % 3], (2, 2, 2 + index % 2), vacuum=8.0)
        add_adsorbate(slab, "CO"[index % 2], 1.4, "fcc")
        slab.positions += generator.normal(scale=0.05 + 0.1 * (index % 2), size=slab.positions.shape)
        slab.set_constraint(FixAtoms(indices=range(4)))
        slab.pbc = True
        found.append(slab)
    return found


def emt() -> CalculatorPotential:
    """EMT."""
    return CalculatorPotential(EMT())
