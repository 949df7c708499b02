import numpy as np
import pytest
from ase.calculators.emt import EMT

from ev2_plugin.demo.emt import RELAXED_FMAX, label, relax, relax_system, sample_frames
from ev2_plugin.demo.systems import ADSORBATES, AdsorbateSystem, Substrate, build_slab


@pytest.fixture(scope="module")
def relaxation():
    substrate = Substrate("Cu", "Au", 0.25, "111", (2, 2, 3), ((0,), (1,), (2,)))
    return relax_system(AdsorbateSystem(9, substrate, "O", "fcc", (0.1, 0.0), 0.3, 0.0, 0.0))


def total_energy(atoms) -> float:
    atoms = atoms.copy()
    atoms.calc = EMT()
    return atoms.get_potential_energy()


def test_energies_are_adsorption_energies(relaxation):
    slab = relax(build_slab(relaxation.system.substrate))[-1].atoms
    reference = total_energy(slab) + total_energy(ADSORBATES["O"])
    assert relaxation.reference == pytest.approx(reference, abs=1e-9)
    for step in relaxation.path:
        assert step.energy == pytest.approx(total_energy(step.atoms) - reference, abs=1e-6)
    assert -6.0 < relaxation.path[-1].energy < -3.0  # oxygen binds to metals by some eV


def test_forces_are_those_of_emt_fixed_atoms_included(relaxation):
    step = relaxation.path[0]
    atoms = step.atoms.copy()
    atoms.set_constraint()
    atoms.calc = EMT()
    np.testing.assert_allclose(step.forces, atoms.get_forces(), atol=1e-6)
    assert np.abs(step.forces[step.atoms.get_tags() == 0]).max() > 1e-3


def test_a_relaxation_falls_from_the_start_to_a_minimum(relaxation):
    first, last = relaxation.path[0], relaxation.path[-1]
    free = last.atoms.get_tags() > 0
    assert last.energy < first.energy
    assert np.linalg.norm(last.forces[free], axis=1).max() <= RELAXED_FMAX
    np.testing.assert_array_equal(last.atoms.positions[~free], first.atoms.positions[~free])
    assert last.atoms.calc is None


def test_a_relaxation_that_needs_more_steps_is_an_error(relaxation):
    with pytest.raises(ValueError, match="OAu3Cu9 did not relax|did not relax to 0.03"):
        relax(relaxation.path[0].atoms, steps=2)


def test_frames_come_from_steps_dynamics_and_rattling(relaxation):
    frames = sample_frames(relaxation, 9, np.random.default_rng(0))
    assert len(frames) == 9
    assert frames[0].energy == relaxation.path[0].energy
    assert frames[2].energy == relaxation.path[-1].energy
    assert len({frame.energy for frame in frames}) == 9
    fixed = relaxation.path[0].atoms.get_tags() == 0
    for frame in frames:
        np.testing.assert_allclose(frame.atoms.positions[fixed], relaxation.path[0].atoms.positions[fixed])
        anew = label(frame.atoms, relaxation.reference)
        assert frame.energy == pytest.approx(anew.energy, abs=1e-6)
        np.testing.assert_allclose(frame.forces, anew.forces, atol=1e-6)
        assert "momenta" not in frame.atoms.arrays


def test_short_relaxations_fill_up_with_other_frames(relaxation):
    short = type(relaxation)(relaxation.system, relaxation.reference, relaxation.path[-1:])
    frames = sample_frames(short, 9, np.random.default_rng(0))
    assert len({frame.energy for frame in frames}) == 9


def test_too_few_frames_are_refused(relaxation):
    with pytest.raises(ValueError, match="at least 3 frames, not 2"):
        sample_frames(relaxation, 2, np.random.default_rng(0))
