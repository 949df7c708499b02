"""Batches of structures: taken from ASE, taken apart, put together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength

from ev2_plugin.potential.structures import from_atoms, join, to_atoms
from helpers.potentials import emt

SLAB = fcc111("Cu", (1, 2, 2), vacuum=5)
SLAB.set_constraint(FixAtoms([0, 2]))
MEMBERS = [molecule("H2O"), SLAB, bulk("NaCl", "rocksalt", a=5.6)]
IDS = ["water", "slab", "salt"]


def test_there_and_back() -> None:
    for before, after in zip(MEMBERS, to_atoms(from_atoms(MEMBERS, IDS)), strict=True):
        assert np.array_equal(before.numbers, after.numbers)
        assert np.array_equal(before.positions, after.positions)
        assert np.array_equal(before.pbc, after.pbc)
        assert np.array_equal(before.cell[before.pbc], after.cell[before.pbc])
        assert np.array_equal(before.get_tags(), after.get_tags())
        fixed = [list(constraint.index) for constraint in before.constraints]
        assert [list(constraint.index) for constraint in after.constraints] == fixed


def test_selecting_and_joining_are_inverse() -> None:
    batch = from_atoms(MEMBERS, IDS)
    singles = [batch.select([index]) for index in (2, 0, 1)]
    mixed = join(singles)
    assert mixed.ids == ("salt", "water", "slab")
    again = mixed.select([1, 2, 0])
    assert again.ids == batch.ids
    for name, tensor in vars(batch).items():
        assert name == "ids" or torch.equal(getattr(again, name), tensor)
    assert batch.batch.tolist() == [0] * 3 + [1] * 4 + [2] * 2
    assert len(batch.select([])) == 0
    with pytest.raises(ValueError, match="no structures to join"):
        join([])


def test_structures_that_cannot_be_taken_are_named() -> None:
    held = molecule("H2O")
    held.set_constraint(FixBondLength(0, 1))
    with pytest.raises(ValueError, match="structure odd: atoms can be fixed by FixAtoms only, not by FixBondLength"):
        from_atoms([held], ["odd"])
    with pytest.raises(ValueError, match="structure thin: periodic direction 2 has no cell vector"):
        from_atoms([Atoms("H", cell=[3, 3, 0], pbc=True)], ["thin"])


def test_a_calculator_serves_as_a_potential() -> None:
    potential, batch = emt(), from_atoms([SLAB, SLAB], ["a", "b"])
    prediction = potential(batch.moved_to(batch.positions.float()))
    alone = SLAB.copy()
    alone.calc = EMT()
    assert prediction.energy.tolist() == pytest.approx([alone.get_potential_energy()] * 2, abs=1e-5)
    assert np.allclose(prediction.forces[4:], alone.get_forces(apply_constraint=False), atol=1e-5)
    assert potential.num_edges(batch) == [4, 4]
    assert potential.calls == 2
