import numpy as np
import pytest

from ev2_plugin.data.predictions import has_forces, read_energies, read_relaxed_positions, read_s2ef_predictions


def test_forces_are_divided_among_structures(tmp_path):
    path = tmp_path / "s2ef_predictions.npz"
    forces = np.arange(12.0).reshape(4, 3)
    np.savez(path, ids=["3_0", "7_1"], energy=[[1.5], [2.5]], forces=forces, chunk_idx=[1])
    predictions = read_s2ef_predictions(path)
    assert list(predictions) == ["3_0", "7_1"]
    assert [prediction.energy for prediction in predictions.values()] == [1.5, 2.5]
    assert predictions["3_0"].free_forces.tolist() == forces[:1].tolist()
    assert predictions["7_1"].free_forces.tolist() == forces[1:].tolist()


def test_flat_energies_of_older_files_are_read(tmp_path):
    path = tmp_path / "p.npz"
    np.savez(path, ids=["3_0"], energy=[1.5], forces=np.zeros((2, 3)), chunk_idx=np.array([], dtype=int))
    assert read_s2ef_predictions(path)["3_0"].energy == 1.5


def test_counts_that_disagree_are_refused(tmp_path):
    path = tmp_path / "p.npz"
    np.savez(path, ids=["3_0", "7_1"], energy=[1.5], forces=np.zeros((2, 3)), chunk_idx=[1])
    with pytest.raises(ValueError, match="2 ids, 1 energies, 2 force arrays"):
        read_s2ef_predictions(path)


def test_missing_arrays_are_named(tmp_path):
    path = tmp_path / "p.npz"
    np.savez(path, ids=["3_0"])
    with pytest.raises(ValueError, match="lacks energy, forces, chunk_idx"):
        read_s2ef_predictions(path)
    with pytest.raises(ValueError, match="lacks pos, chunk_idx"):
        read_relaxed_positions(path)


def test_positions_are_divided_among_systems(tmp_path):
    path = tmp_path / "relaxed_positions.npz"
    np.savez(path, ids=["12", "3"], pos=np.arange(15.0).reshape(5, 3), chunk_idx=[2])
    positions = read_relaxed_positions(path)
    assert {name: pos.shape for name, pos in positions.items()} == {"12": (2, 3), "3": (3, 3)}
    assert positions["3"][0].tolist() == [6.0, 7.0, 8.0]


def test_positions_of_too_few_systems_are_refused(tmp_path):
    path = tmp_path / "relaxed_positions.npz"
    np.savez(path, ids=["12", "3", "4"], pos=np.zeros((5, 3)), chunk_idx=[2])
    with pytest.raises(ValueError, match="3 ids, 2 sets of positions"):
        read_relaxed_positions(path)


def test_energies_alone_are_read(tmp_path):
    path = tmp_path / "is2re_predictions.npz"
    np.savez(path, ids=["12", "3"], energy=np.array([[0.5], [1.5]], dtype=np.float32))
    assert read_energies(path) == {"12": 0.5, "3": 1.5}
    assert not has_forces(path)
    np.savez(path, ids=["12", "3"], energy=[0.5])
    with pytest.raises(ValueError, match="2 ids, 1 energies"):
        read_energies(path)


def test_repeated_identifiers_are_refused(tmp_path):
    path = tmp_path / "p.npz"
    arrays = {"energy": [1.0, 2.0, 3.0], "forces": np.zeros((3, 3)), "pos": np.zeros((3, 3)), "chunk_idx": [1, 2]}
    np.savez(path, ids=["3_0", "7_1", "3_0"], **arrays)
    assert has_forces(path)
    for read in (read_s2ef_predictions, read_relaxed_positions, read_energies):
        with pytest.raises(ValueError, match="names 1 structures more than once: 3_0"):
            read(path)
