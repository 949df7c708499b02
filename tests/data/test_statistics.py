import numpy as np
import pytest

from ev2_plugin.data.statistics import TargetStatistics, compute_statistics


def test_statistics_of_a_hand_example(make_data):
    forces = np.zeros((9, 3))
    forces[:4] = 100.0  # fixed atoms do not count
    forces[8] = [3.0, 0.0, -4.0]
    frames = [make_data(0, 0, energy=1.0, forces=forces), make_data(0, 1, energy=5.0, forces=-forces)]
    statistics = compute_statistics(frames)
    assert statistics.num_structures == 2
    assert statistics.energy_mean == 3.0
    assert statistics.energy_std == pytest.approx(8.0**0.5)
    assert statistics.forces_rms == pytest.approx((25.0 / 15) ** 0.5)


def test_normalizers_are_what_a_trainer_reads():
    statistics = TargetStatistics(num_structures=2, energy_mean=-1.0, energy_std=2.0, forces_rms=0.5)
    assert statistics.normalizers() == {
        "energy": {"mean": -1.0, "rmsd": 2.0},
        "forces": {"mean": 0.0, "rmsd": 0.5},
    }


def test_a_structure_without_labels_is_named(make_data):
    unlabelled = make_data(1)
    del unlabelled.y, unlabelled.force
    with pytest.raises(ValueError, match="structure 1 has no energy and no forces"):
        compute_statistics([make_data(0), unlabelled])


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_structures_are_refused(make_data, count):
    with pytest.raises(ValueError, match=f"at least two structures, not {count}"):
        compute_statistics([make_data(sid) for sid in range(count)])


def test_structures_without_free_atoms_are_refused(make_data):
    frames = [make_data(0), make_data(1)]
    for frame in frames:
        frame.fixed[:] = 1
    with pytest.raises(ValueError, match="every atom is fixed"):
        compute_statistics(frames)


def test_labels_that_do_not_vary_are_refused(make_data):
    with pytest.raises(ValueError, match="do not vary"):
        compute_statistics([make_data(0, energy=2.0), make_data(1, energy=2.0)])
