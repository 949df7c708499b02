"""Which atoms touch, against ASE's neighbour list and a search over many images."""

from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import NeighborList, natural_cutoffs

from ev2_plugin.adsorbml.connectivity import Lattice, all_pairs

SYMBOLS = ["H", "C", "O", "Cu", "Pt", "Cs", "Al"]


def random_atoms(rng: np.random.Generator, pbc: tuple[bool, bool, bool], number: int = 14) -> Atoms:
    """Atoms in, and partly outside of, a skewed cell that is smaller than some of their spheres."""
    cell = np.diag(rng.uniform(3.0, 7.0, 3)) + rng.uniform(-2.5, 2.5, (3, 3))
    positions = rng.uniform(-1.5, 2.5, (number, 3)) @ cell
    return Atoms(rng.choice(SYMBOLS, number), positions=positions, cell=cell, pbc=pbc)


def touching_by_ase(atoms: Atoms, multiplier: float) -> np.ndarray:
    neighbors = NeighborList(natural_cutoffs(atoms, mult=multiplier), self_interaction=False, bothways=True)
    neighbors.update(atoms)
    return neighbors.get_connectivity_matrix(sparse=False).astype(bool)


@pytest.mark.parametrize("pbc", list(product((False, True), repeat=3)))
@pytest.mark.parametrize("multiplier", [1.0, 1.5])
def test_the_same_atoms_touch_as_in_ases_neighbor_list(pbc: tuple[bool, bool, bool], multiplier: float) -> None:
    rng = np.random.default_rng(7)
    for number in (2, 5, 14):
        atoms = random_atoms(rng, pbc, number)
        pairs = all_pairs(atoms.numbers)
        distances = Lattice(atoms.cell.array, atoms.pbc).shortest_distances(atoms.positions[None], pairs)[0]
        expected = touching_by_ase(atoms, multiplier)
        np.testing.assert_array_equal(pairs.touching(distances, multiplier), expected[pairs.first, pairs.second])


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, True, False), (False, False, False)])
def test_distances_are_the_shortest_of_all_images(pbc: tuple[bool, bool, bool]) -> None:
    rng = np.random.default_rng(3)
    atoms = random_atoms(rng, pbc)
    pairs = all_pairs(atoms.numbers)
    found = Lattice(atoms.cell.array, atoms.pbc).shortest_distances(atoms.positions[None], pairs)[0]
    shifts = np.array(list(product(*(range(-9, 10) if periodic else (0,) for periodic in pbc)))) @ atoms.cell.array
    differences = atoms.positions[pairs.second] - atoms.positions[pairs.first]
    expected = np.linalg.norm(differences[:, None] + shifts, axis=-1).min(axis=1)
    reached = expected < 1.5 * pairs.radii + 0.6
    np.testing.assert_allclose(found[reached], expected[reached], rtol=0, atol=1e-12)
    assert (found[~reached] >= (1.5 * pairs.radii + 0.6)[~reached]).all()


def test_cells_may_lack_the_vectors_of_directions_that_are_not_periodic() -> None:
    atoms = Atoms("CuO", positions=[[0.1, 0, 0], [3.9, 0, 0.5]], cell=[4.0, 6.0, 0.0], pbc=(True, True, False))
    distances = Lattice(atoms.cell.array, atoms.pbc).shortest_distances(atoms.positions[None], all_pairs(atoms.numbers))
    assert distances[0, 0] == pytest.approx(np.hypot(0.2, 0.5))


def test_spheres_have_the_covalent_radius_times_the_multiplier_and_the_skin() -> None:
    pairs = all_pairs(np.array([29, 8]))  # radii 1.32 and 0.66 Å
    for multiplier, limit in ((1.0, 1.98 + 0.6), (1.5, 1.5 * 1.98 + 0.6)):
        assert pairs.touching(np.array([limit - 1e-9]), multiplier).all()
        assert not pairs.touching(np.array([limit + 1e-9]), multiplier).any()


def test_one_atom_has_no_pairs() -> None:
    lattice = Lattice(np.eye(3) * 3.0, np.array([True] * 3))
    assert lattice.shortest_distances(np.zeros((2, 1, 3)), all_pairs(np.array([29]))).shape == (2, 0)


def test_structures_of_a_batch_do_not_see_each_other() -> None:
    rng = np.random.default_rng(1)
    atoms = random_atoms(rng, (True, True, False))
    positions = atoms.positions + rng.normal(size=(5, len(atoms), 3))
    pairs = all_pairs(atoms.numbers)
    lattice = Lattice(atoms.cell.array, atoms.pbc)
    single = [lattice.shortest_distances(one[None], pairs)[0] for one in positions]
    np.testing.assert_allclose(lattice.shortest_distances(positions, pairs), single, rtol=0, atol=1e-12)
