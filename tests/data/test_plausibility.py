import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from ev2_plugin.data.plausibility import WorkBalance, check_cell, check_distances, check_labels, work_of_step

COPPER = np.full(4, 29)


@pytest.mark.parametrize("energy", [-14.0, -4 * 45_000.0, 3.0])  # pseudopotential, all electrons, referenced
def test_energies_in_ev_pass(energy):
    check_labels(COPPER, energy, np.zeros((4, 3)))


@pytest.mark.parametrize(
    ("energy", "forces", "message"),
    [
        (float("nan"), np.zeros((4, 3)), "the energy is nan"),
        (-14.0, np.full((4, 3), np.inf), r"the force on atom 0 is \[inf, inf, inf\]"),
        (-4.3e6 * 4, np.zeros((4, 3)), "is no energy in eV"),  # all electrons in kJ/mol
        (500.0, np.zeros((4, 3)), "is no energy in eV"),
        (-14.0, np.full((4, 3), 5e3), "over 1000 eV/Å atoms overlap or the unit is another"),
    ],
)
def test_impossible_labels_are_refused(energy, forces, message):
    with pytest.raises(ValueError, match=message):
        check_labels(COPPER, energy, forces)


def test_cells_without_volume_are_refused_in_periodic_directions_only():
    flat = Atoms("Cu", cell=[[3, 0, 0], [0, 3, 0], [6, 3, 0]], pbc=True)
    with pytest.raises(ValueError, match="is singular for its periodic directions"):
        check_cell(flat)
    flat.pbc = [True, True, False]
    check_cell(flat)
    flat.set_cell([0, 3, 0])
    with pytest.raises(ValueError, match="is singular for its periodic directions"):
        check_cell(flat)
    check_cell(Atoms("Cu"))


def test_atoms_in_one_place_are_refused_also_across_the_boundary():
    check_distances(bulk("Cu"))
    twice = Atoms("Cu2", [[0.0, 0, 0], [3.0, 0, 0]], cell=[3.0, 5.0, 5.0], pbc=True)
    with pytest.raises(ValueError, match="atoms 0 and 1 lie in the same place"):
        check_distances(twice)


def walk(energy_unit: float, force_unit: float) -> WorkBalance:
    """Small random steps of a rattled crystal, labels divided by units."""
    rng = np.random.default_rng(0)
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.rattle(0.1, seed=0)
    atoms.calc = EMT()
    balance, before = WorkBalance(), None
    for _ in range(8):
        now = (atoms.positions.copy(), atoms.get_potential_energy() / energy_unit, atoms.get_forces() / force_unit)
        if before is not None:
            step, forces = now[0] - before[0], (now[2] + before[2]) / 2
            balance.add(work_of_step(step, forces, atoms.cell.array, atoms.pbc), before[1] - now[1])
        before = now
        atoms.positions += rng.normal(scale=0.01, size=(len(atoms), 3))
    return balance


@pytest.mark.parametrize(
    ("energy_unit", "force_unit", "said"),
    [
        (1.0, 1.0, None),
        (27.2114, 1.0, "energies in Hartree beside forces in eV/Å"),
        (27.2114, 27.2114 / 0.529177, "energies in Hartree beside forces in Hartree/Bohr"),
        (0.0433641, 1.0, "energies in kcal/mol beside"),
        (0.001, 1.0, "energies in meV beside"),
        (1.0, -1.0, "gradients in place of forces"),
        (3.0, 1.0, "their units do not fit together"),
    ],
)
def test_work_along_a_trajectory_tells_units(energy_unit, force_unit, said):
    verdict = walk(energy_unit, force_unit).verdict()
    assert (verdict is None) == (said is None)
    assert said is None or said in verdict


def test_frames_that_do_not_tell_are_passed_over():
    rng = np.random.default_rng(0)
    noise = WorkBalance()
    for work, difference in rng.normal(size=(20, 2)):
        noise.add(work, difference)
    assert noise.verdict() is None
    assert WorkBalance().verdict() is None


def test_long_steps_and_no_steps_have_no_work():
    cell, flags = np.eye(3) * 5, np.array([True] * 3)
    still = np.zeros((2, 3))
    assert work_of_step(still, np.ones((2, 3)), cell, flags) is None
    assert work_of_step(still + 0.3, np.ones((2, 3)), cell, flags) is None
    # across the boundary the shortest way counts
    assert work_of_step(still + [5.1, 0, 0], np.ones((2, 3)), cell, flags) == pytest.approx(0.2)
