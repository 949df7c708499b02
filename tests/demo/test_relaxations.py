import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import Trajectory

from ev2_plugin.data.predictions import StructurePrediction
from ev2_plugin.data.structures import data_to_structure
from ev2_plugin.demo.dataset import relaxation_data
from ev2_plugin.demo.emt import relax_system
from ev2_plugin.demo.relaxations import (
    RelaxedSystem,
    judge_relaxations,
    label_relaxed,
    largest_force,
    trace_relaxations,
)
from ev2_plugin.demo.systems import AdsorbateSystem, Substrate


@pytest.fixture(scope="module")
def relaxation():
    substrate = Substrate("Ni", "Ni", 0.0, "100", (2, 2, 3), ((), (), ()))
    return relax_system(AdsorbateSystem(7, substrate, "N", "hollow", (0.1, 0.1), 0.4, 0.0, 0.0))


@pytest.fixture(scope="module")
def start(relaxation):
    return relaxation_data(relaxation)


def says(energy: float, force: float = 0.01) -> dict[str, StructurePrediction]:
    return {"7_0": StructurePrediction(energy, np.array([[0.0, force, 0.0], [force / 2, 0.0, 0.0]]))}


def test_a_model_that_finds_the_minimum_is_without_fault(start):
    relaxed = label_relaxed([start], {"7": start.pos_relaxed.numpy()})
    assert (relaxed[0].sid, relaxed[0].fid) == (7, 0)
    verdict = judge_relaxations([start], relaxed, says(start.y_relaxed + 0.25))[0]
    assert verdict.emt_excess == pytest.approx(0.0, abs=1e-5)
    assert verdict.distance == pytest.approx(0.0, abs=1e-6)
    assert verdict.predicted_error == pytest.approx(0.25)
    assert verdict.fmax == pytest.approx(0.01)


def test_a_model_that_does_nothing_stays_at_the_start(start):
    verdict = judge_relaxations([start], label_relaxed([start], {"7": start.pos.numpy()}), says(0.0))[0]
    assert verdict.emt_excess == pytest.approx(start.y_init - start.y_relaxed, abs=1e-4)
    assert verdict.start_excess == pytest.approx(start.y_init - start.y_relaxed)
    assert verdict.distance == verdict.start_distance > 0.01


def test_a_system_that_was_not_relaxed_is_named(start):
    with pytest.raises(ValueError, match="system 7 is missing among 1"):
        label_relaxed([start], {"17": start.pos.numpy()})


def test_other_systems_are_not_compared(start):
    other = label_relaxed([start], {"7": start.pos.numpy()})[0]
    other.sid = 8
    with pytest.raises(ValueError, match="system 7 is set beside system 8"):
        judge_relaxations([start], [other], says(0.0))


def write_trajectory(path, frames) -> None:
    with Trajectory(path, "w") as trajectory:
        for frame in frames:
            atoms = frame.atoms.copy()
            atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=frame.forces)
            trajectory.write(atoms)


VERDICT = RelaxedSystem(7, 0.002, 0.0, 0.0, 0.0, 0.0, fmax=0.02)


@pytest.mark.parametrize("end_is_written", [False, True])
def test_traces_run_from_the_start_to_the_end(start, relaxation, tmp_path, end_is_written):
    frames = [relaxation.path[0], relaxation.path[-3]]
    write_trajectory(tmp_path / "7.traj", [*frames, *relaxation.path[-1:]] if end_is_written else frames)
    relaxed = label_relaxed([start], {"7": relaxation.path[-1].atoms.positions})
    trace = trace_relaxations([start], relaxed, [VERDICT], tmp_path)[0]
    expected = [frame.energy - start.y_relaxed for frame in frames] + [0.002]
    np.testing.assert_allclose(trace.emt_excess, expected, atol=1e-4)
    free = data_to_structure(start).get_tags() > 0
    np.testing.assert_allclose(trace.fmax, [*(largest_force(frame.forces[free]) for frame in frames), 0.02])


def test_a_system_that_needed_no_step_has_its_end_alone(start, tmp_path):
    (tmp_path / "7.traj").touch()
    relaxed = label_relaxed([start], {"7": start.pos.numpy()})
    trace = trace_relaxations([start], relaxed, [VERDICT], tmp_path)[0]
    assert trace.emt_excess.tolist() == [0.002]
    assert trace.fmax.tolist() == [0.02]
