import numpy as np
import pytest

from ev2_plugin.data.errors import TargetComparison, compare_s2ef, mean_displacement
from ev2_plugin.data.predictions import StructurePrediction
from ev2_plugin.data.statistics import TargetStatistics

TRAINING = TargetStatistics(num_structures=2, energy_mean=1.0, energy_std=1.0, forces_rms=1.0)


def test_errors_of_a_hand_example():
    target = TargetComparison(np.array([1.0, 4.0]), np.array([2.0, 4.0]), mean_prediction=0.0)
    assert target.mae == 0.5
    assert target.mean_predictor_mae == 2.5
    assert target.ratio == pytest.approx(0.2)


def test_predictions_meet_their_own_labels(make_data):
    structures = [make_data(2, 0), make_data(10, 1)]
    predictions = {
        f"{data.sid}_{data.fid}": StructurePrediction(data.y + data.sid, data.force[4:].numpy() + 0.5)
        for data in reversed(structures)  # the host sorts identifiers as strings
    }
    comparison = compare_s2ef(structures, predictions, TRAINING)
    assert comparison.energy.mae == pytest.approx(6.0)
    assert comparison.energy.mean_predictor_mae == pytest.approx(np.mean([abs(data.y - 1.0) for data in structures]))
    assert comparison.forces.labels.shape == (2 * 5 * 3,)
    assert comparison.forces.mae == pytest.approx(0.5, abs=1e-6)
    free = np.concatenate([data.force[4:].numpy().ravel() for data in structures])
    assert comparison.forces.mean_predictor_mae == pytest.approx(np.abs(free).mean())
    assert comparison.sids.tolist() == [2, 10]


def test_a_structure_without_prediction_is_named(make_data):
    with pytest.raises(ValueError, match="no prediction for structure 3_4"):
        compare_s2ef([make_data(3, 4)], {}, TRAINING)


def test_forces_of_all_atoms_are_refused(make_data):
    predictions = {"0_0": StructurePrediction(0.0, np.zeros((9, 3)))}
    with pytest.raises(ValueError, match="9 forces for 5 free atoms"):
        compare_s2ef([make_data()], predictions, TRAINING)


def test_nothing_to_compare_is_an_error():
    with pytest.raises(ValueError, match="no structures to compare"):
        compare_s2ef([], {}, TRAINING)


def test_displacements_average_over_free_atoms_and_ignore_whole_cells(make_data):
    data = make_data()
    reference = data.pos.numpy().astype(float)
    moved = reference.copy()
    moved[:4] += 3.0  # fixed
    moved[4:] += [0.0, 0.3, 0.4]
    moved[8] += [0.0, -0.3, -0.4]  # back in place
    moved += data.cell.numpy()[0, 0]
    assert mean_displacement(data, moved, reference) == pytest.approx(4 * 0.5 / 5, abs=1e-5)


def test_positions_of_another_structure_are_refused(make_data):
    with pytest.raises(ValueError, match=r"reference of system 0: shape \(8, 3\)"):
        mean_displacement(make_data(), np.zeros((9, 3)), np.zeros((8, 3)))
