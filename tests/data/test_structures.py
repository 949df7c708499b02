import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.constraints import FixAtoms, FixBondLength

from ev2_plugin.data.structures import data_to_structure, fixed_atoms, periodicity, s2ef_labels, structure_to_data


def test_a_data_object_has_the_keys_shapes_and_types_of_the_published_files(slab):
    forces = np.arange(27.0).reshape(9, 3)
    data = structure_to_data(slab, sid=3, fid=5, energy=-1.5, forces=forces)
    assert data.pos.shape == (9, 3)
    assert data.pos.dtype == torch.float32
    assert data.cell.shape == (1, 3, 3)
    assert data.pbc.tolist() == [[True, True, True]]
    assert data.atomic_numbers.tolist() == [29] * 8 + [8]
    assert data.natoms == 9
    assert data.tags.tolist() == [0] * 4 + [1] * 4 + [2]
    assert data.fixed.tolist() == [1.0] * 4 + [0.0] * 5
    assert (data.sid, data.fid) == (3, 5)
    assert data.y == -1.5
    assert torch.equal(data.force, torch.tensor(forces, dtype=torch.float32))
    assert not {"energy", "forces"} & set(data.keys())  # renaming onto them would fail


def test_single_structures_have_neither_frame_number_nor_labels(slab):
    data = structure_to_data(slab, sid=0)
    assert not {"fid", "energy", "y", "forces", "force"} & set(data.keys())


def test_a_structure_survives_the_way_there_and_back(slab):
    back = data_to_structure(structure_to_data(slab, sid=0))
    assert back.get_chemical_symbols() == slab.get_chemical_symbols()
    np.testing.assert_allclose(back.positions, slab.positions, atol=1e-5)
    np.testing.assert_allclose(back.cell.array, slab.cell.array, atol=1e-5)
    assert back.get_tags().tolist() == slab.get_tags().tolist()
    assert fixed_atoms(back).tolist() == fixed_atoms(slab).tolist() == [True] * 4 + [False] * 5
    assert back.pbc.all()


def test_other_positions_replace_the_stored_ones(slab):
    moved = slab.positions + 0.5
    back = data_to_structure(structure_to_data(slab, sid=0), moved)
    np.testing.assert_array_equal(back.positions, moved)


def test_several_fixing_constraints_add_up(slab):
    slab.set_constraint([FixAtoms(indices=[0]), FixAtoms(indices=[8])])
    assert np.flatnonzero(fixed_atoms(slab)).tolist() == [0, 8]


def test_other_constraints_are_refused_by_name(slab):
    slab.set_constraint(FixBondLength(0, 1))
    with pytest.raises(ValueError, match="FixBond"):
        structure_to_data(slab, sid=0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda atoms: atoms.set_cell([0, 0, 0]), "no volume"),
        (lambda atoms: atoms.positions.__setitem__((2, 1), np.nan), "positions of system 7: 1 values"),
    ],
)
def test_bad_structures_are_refused(slab, spoil, message):
    spoil(slab)
    with pytest.raises(ValueError, match=message):
        structure_to_data(slab, sid=7)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"energy": float("inf")}, "energy of system 7 is inf"),
        ({"forces": np.zeros((8, 3))}, r"shape \(8, 3\), needed \(9, 3\)"),
        ({"forces": np.full((9, 3), np.nan)}, "forces of system 7: 27 values"),
    ],
)
def test_bad_labels_are_refused(slab, labels, message):
    with pytest.raises(ValueError, match=message):
        structure_to_data(slab, sid=7, **labels)


def test_labels_are_read_under_either_name_and_published_objects_have_no_flags() -> None:
    """The Open Catalyst files are periodic in all directions without saying so."""
    data = structure_to_data(bulk("Cu", cubic=True), sid=0, fid=0, energy=-1.5, forces=np.ones((4, 3)))
    expected = s2ef_labels(data, "it")
    del data["pbc"]
    assert periodicity(data).tolist() == [True, True, True]
    assert data_to_structure(data).pbc.all()
    energy, forces = s2ef_labels(data, "it")
    assert energy == expected[0] == -1.5
    assert torch.equal(forces, expected[1])
    data.energy, data.forces = data.y, data.force
    del data["y"], data["force"]
    energy, forces = s2ef_labels(data, "it")
    assert energy == expected[0]
    assert torch.equal(forces, expected[1])
    del data["forces"]
    with pytest.raises(ValueError, match="structure 3 has no forces"):
        s2ef_labels(data, "structure 3")
