import numpy as np
import pytest
import torch
from ase.calculators.emt import EMT

from ev2_plugin.data.lmdb import read_lmdb
from ev2_plugin.data.metadata import count_edges, read_metadata
from ev2_plugin.data.structures import data_to_structure
from ev2_plugin.demo.dataset import SPLITS, DatasetFolder, DatasetSize, build_dataset
from ev2_plugin.demo.emt import label_system
from ev2_plugin.demo.relaxations import reference_energy
from ev2_plugin.demo.systems import draw_systems

SIZE = DatasetSize(train=2, val=1, test=1, frames=3)


def build(root, seed: int, workers: int = 1) -> DatasetFolder:
    return build_dataset(root, SIZE, seed=seed, cutoff=5.0, max_neighbors=20, workers=workers)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> DatasetFolder:
    return build(tmp_path_factory.mktemp("data"), seed=1)


def test_whole_systems_go_to_one_split(folder):
    sids = {split: {data.sid for data in read_lmdb(folder.s2ef(split))} for split in SPLITS}
    assert sids == {"train": {0, 1}, "val": {2}, "test": {3}}
    assert {split: {data.sid for data in read_lmdb(folder.is2re(split))} for split in SPLITS} == sids


def test_frames_of_a_system_are_numbered(folder):
    names = [(data.sid, data.fid) for data in read_lmdb(folder.s2ef("train"))]
    assert names == [(sid, fid) for sid in range(2) for fid in range(3)]


def test_tags_and_fixed_atoms_agree(folder):
    for split in SPLITS:
        for data in read_lmdb(folder.s2ef(split)):
            assert set(data.tags.tolist()) == {0, 1, 2}
            assert torch.equal(data.fixed == 1, data.tags == 0)
            assert 1 <= int((data.tags == 2).sum()) <= 2


def test_labels_are_emt_less_one_reference_per_system(folder):
    starts = {data.sid: reference_energy(data) for data in read_lmdb(folder.is2re("test"))}
    for data in read_lmdb(folder.s2ef("test")):
        atoms = data_to_structure(data)
        atoms.calc = EMT()
        assert data.y == pytest.approx(atoms.get_potential_energy() - starts[data.sid], abs=1e-4)
        np.testing.assert_allclose(data.force, atoms.get_forces(apply_constraint=False), atol=1e-4)


def test_relaxed_structures_are_minima_with_their_energies(folder):
    for data in read_lmdb(folder.is2re("test")):
        relaxed = data_to_structure(data, data.pos_relaxed.numpy())
        relaxed.calc = EMT()
        assert relaxed.get_potential_energy() - reference_energy(data) == pytest.approx(data.y_relaxed, abs=1e-4)
        assert np.linalg.norm(relaxed.get_forces(), axis=1).max() < 0.031
        assert data.y_relaxed < data.y_init
        assert torch.equal(data.pos[data.fixed == 1], data.pos_relaxed[data.fixed == 1])


def test_metadata_describe_each_structure(folder):
    for split in SPLITS:
        for path in (folder.s2ef(split), folder.is2re(split)):
            sizes, structures = read_metadata(path.parent), list(read_lmdb(path))
            assert sizes.natoms.tolist() == [data.natoms for data in structures]
            assert sizes.neighbors.tolist() == [count_edges(data, 5.0, 20) for data in structures]


def contents(folder: DatasetFolder) -> list[tuple[str, list[tuple[str, bytes]]]]:
    """Every value of every entry, as bytes."""
    return [
        (str(path.relative_to(folder.root)), [(key, to_bytes(data[key])) for key in sorted(data.keys())])
        for split in SPLITS
        for path in (folder.s2ef(split), folder.is2re(split))
        for data in read_lmdb(path)
    ]


def to_bytes(value) -> bytes:
    return value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode()


def test_a_seed_names_the_dataset_whatever_the_number_of_processes(folder, tmp_path):
    assert contents(build(tmp_path, seed=1, workers=2)) == contents(folder)


def test_frames_depend_on_the_seed_and_not_on_the_order_of_systems(folder):
    systems = draw_systems(SIZE.systems, np.random.default_rng(1))
    stored = [data.y for data in read_lmdb(folder.s2ef("train")) if data.sid == 1]
    same, other = ([frame.energy for frame in label_system(systems[1], SIZE.frames, seed)[1]] for seed in (1, 2))
    assert same == stored
    assert other != stored


def test_a_split_without_systems_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the val split needs at least one system, not 0"):
        build_dataset(tmp_path, DatasetSize(val=0), seed=0, cutoff=5.0, max_neighbors=20)
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_is_not_overwritten(folder):
    with pytest.raises(FileExistsError, match="remove it"):
        build(folder.root, seed=1)
