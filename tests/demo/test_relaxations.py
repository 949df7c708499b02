import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from ev2_plugin.data.structures import data_to_structure
from ev2_plugin.demo.dataset import relaxation_data
from ev2_plugin.demo.emt import relax_system
from ev2_plugin.demo.relaxations import judge_relaxation, largest_force, trace_relaxation
from ev2_plugin.demo.systems import AdsorbateSystem, Substrate


@pytest.fixture(scope="module")
def relaxation():
    substrate = Substrate("Ni", "Ni", 0.0, "100", (2, 2, 3), ((), (), ()))
    return relax_system(AdsorbateSystem(7, substrate, "N", "hollow", (0.1, 0.1), 0.4, 0.0, 0.0))


@pytest.fixture(scope="module")
def start(relaxation):
    return relaxation_data(relaxation)


def frame(start, positions, energy: float, forces=None):
    """What a trajectory holds of a step."""
    atoms = data_to_structure(start, positions)
    forces = np.full(atoms.positions.shape, 0.01 / np.sqrt(3)) if forces is None else forces
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def verdict(start, *frames):
    return judge_relaxation(start, frames[-1], trace_relaxation(start, frames))


def test_a_model_that_finds_the_minimum_is_without_fault(start):
    found = verdict(start, frame(start, None, 0.0), frame(start, start.pos_relaxed.numpy(), start.y_relaxed + 0.25))
    assert found.sid == 7
    assert found.emt_excess == pytest.approx(0.0, abs=1e-5)
    assert found.distance == pytest.approx(0.0, abs=1e-6)
    assert found.predicted_error == pytest.approx(0.25)
    assert found.fmax == pytest.approx(0.01)


def test_a_model_that_does_nothing_stays_at_the_start(start):
    found = verdict(start, frame(start, None, 0.0))
    assert found.emt_excess == pytest.approx(start.y_init - start.y_relaxed, abs=1e-4)
    assert found.start_excess == pytest.approx(start.y_init - start.y_relaxed)
    assert found.distance == found.start_distance > 0.01


def test_traces_run_from_the_start_to_the_end(start, relaxation):
    steps = [relaxation.path[0], relaxation.path[-3], relaxation.path[-1]]
    trace = trace_relaxation(start, [frame(start, step.atoms.positions, 0.0, step.forces) for step in steps])
    np.testing.assert_allclose(trace.emt_excess, [step.energy - start.y_relaxed for step in steps], atol=1e-4)
    free = data_to_structure(start).get_tags() > 0
    np.testing.assert_allclose(trace.fmax, [largest_force(step.forces[free]) for step in steps])
