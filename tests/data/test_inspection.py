"""Inspection of stored datasets, sound and spoilt."""

import pickle
import re
from dataclasses import replace
from pathlib import Path

import ase.db
import lmdb
import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from ev2_plugin.data.dataset_report import Expectation, Inspection
from ev2_plugin.data.inspection import inspect_dataset
from ev2_plugin.data.lmdb import write_lmdb
from ev2_plugin.data.metadata import compute_metadata, write_metadata
from ev2_plugin.data.stored import dataset_files

SHARED = Path(__file__).parents[3] / "shared" / "data"
NEAR = Expectation(cutoff=3.0, max_neighbors=20)


def store(folder: Path, structures: list[Data]) -> Path:
    """Write structures as they are: `write_lmdb` would refuse what is spoilt."""
    folder.mkdir()
    path = str(folder / "data.0000.lmdb")
    with lmdb.open(path, subdir=False, lock=False, map_size=2**24) as env, env.begin(write=True) as transaction:
        for index, data in enumerate(structures):
            transaction.put(str(index).encode(), pickle.dumps(data))
        transaction.put(b"length", pickle.dumps(len(structures)))
    return folder


def fatal(found: Inspection) -> list[str]:
    return [finding.text for finding in found.findings if finding.fatal]


def test_a_sound_dataset_is_described(tmp_path, make_data):
    structures = [make_data(sid, fid) for sid in range(2) for fid in range(3)]
    write_lmdb(tmp_path / "data.0000.lmdb", structures[:4])
    write_lmdb(tmp_path / "data.0001.lmdb", structures[4:])
    write_metadata(tmp_path, compute_metadata(structures, 3.0, 20))
    found = inspect_dataset(tmp_path, NEAR)
    assert found.findings == []
    assert found.is_fit
    assert (found.structures, len(found.files)) == (6, 2)
    assert found.elements == {29: 6, 8: 6}
    assert found.periodicity == {(True, True, True): 6}
    assert (found.atoms.smallest, found.atoms.largest) == (9, 9)
    assert found.edges.mean == compute_metadata(structures[:1], 3.0, 20).neighbors[0]
    assert found.atom_kinds == {"fixed": 24, "free": 30, "tag 0": 24, "tag 1": 24, "tag 2": 6}
    assert found.energy_key == "y"
    assert found.energies.spread().mean == pytest.approx(np.mean([data.y for data in structures]))
    free = torch.cat([data.force[data.fixed == 0] for data in structures]).double()
    assert found.free_forces.rms == pytest.approx(float((free**2).mean().sqrt()))
    assert found.keys["force"] == 6
    assert found.kind is not None
    assert found.kind.name == "referenced"


def drop(key: str):
    return lambda data: delattr(data, key)


def coincide(data: Data) -> None:
    data.pos[3] = data.pos[2]


def not_finite(data: Data) -> None:
    data.force[0, 1] = float("nan")


def flatten(data: Data) -> None:
    data.cell[0, 1] = data.cell[0, 0]


def no_element(data: Data) -> None:
    data.atomic_numbers[4] = 0


def shorten(data: Data) -> None:
    data.force = data.force[:-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("fixed"), "1 of 4 structures have no fixed; first: .*entry 2"),
        (drop("y"), "1 of 4 structures have no y"),
        (drop("force"), "1 of 4 structures have no force"),
        (not_finite, "1 of 4 structures have values of force that are not finite; first: .*entry 2"),
        (shorten, "have force of another length than natoms"),
        (coincide, "atoms in the same place .atoms 2 and 3"),
        (flatten, "1 of 4 structures have a cell that is singular for its periodic directions; first: .*entry 2"),
        (no_element, r"1 of 4 structures have atomic numbers that are no elements \(1 to 118\); first: .*entry 2"),
    ],
)
def test_what_breaks_training_is_found_and_named(tmp_path, make_data, change, message):
    structures = [make_data(sid) for sid in range(4)]
    change(structures[2])
    folder = store(tmp_path / "data", structures)
    found = inspect_dataset(folder, NEAR)
    assert not found.is_fit
    assert any(re.search(message, text) for text in fatal(found)), fatal(found)


def test_repeated_numbers_and_a_lack_of_labels_are_warnings(tmp_path, make_data):
    structures = [make_data(1, 0), make_data(2, 0), make_data(1, 0)]
    for data in structures:
        del data.y, data.force
    found = inspect_dataset(store(tmp_path / "data", structures), NEAR)
    assert found.is_fit
    texts = " ".join(finding.text for finding in found.findings)
    assert "1 structures repeat the sid and fid of another" in texts
    assert "there are no labels" in texts
    assert "metadata.npz" in texts


def test_metadata_of_another_dataset_are_found(tmp_path, make_data):
    structures = [make_data(sid) for sid in range(3)]
    folder = store(tmp_path / "data", structures)
    write_metadata(folder, compute_metadata(structures[:2], 3.0, 20))
    assert "counts 2 structures, and there are 3" in fatal(inspect_dataset(folder, NEAR))[0]
    sizes = compute_metadata(structures, 3.0, 20)
    write_metadata(folder, replace(sizes, natoms=sizes.natoms + [0, 1, 0]))
    assert "gives structure 1 10 atoms, and it has 9 (1 differ)" in fatal(inspect_dataset(folder, NEAR))[0]


def test_labels_are_set_beside_a_normalizer(tmp_path, make_data):
    folder = store(tmp_path / "data", [make_data(sid) for sid in range(20)])
    assert inspect_dataset(folder, replace(NEAR, normalizer=(0.0, 1.0))).is_fit
    far = inspect_dataset(folder, replace(NEAR, normalizer=(500.0, 2.0)))
    assert "are both of the same energy" in fatal(far)[0]
    doubtful = inspect_dataset(folder, replace(NEAR, normalizer=(5.0, 1.0)))
    assert doubtful.is_fit
    assert any("are both of the same energy" in finding.text for finding in doubtful.findings)
    shifted = {29: 1.0, 8: 500.0 - 8.0}  # leaves the labels at -500
    assert inspect_dataset(folder, replace(NEAR, normalizer=(-500.0, 1.0), references=shifted)).is_fit
    lacking = inspect_dataset(folder, replace(NEAR, normalizer=(0.0, 1.0), references={29: 1.0}))
    assert fatal(lacking) == ["no element reference for O"]
    assert (
        "Cu: the model knows atomic numbers below 20"
        in fatal(inspect_dataset(folder, replace(NEAR, max_num_elements=20)))[0]
    )


def test_energies_that_are_all_equal_teach_nothing(tmp_path, make_data):
    folder = store(tmp_path / "data", [make_data(sid, energy=1.0) for sid in range(3)])
    assert "all values of y are equal" in fatal(inspect_dataset(folder, NEAR))[0]


def test_total_energies_are_known_by_their_composition(tmp_path):
    path = SHARED / "oxides.db"
    if not path.is_file():
        pytest.skip("../shared/data/oxides.db is absent")
    found = inspect_dataset(path, NEAR)
    assert found.kind is not None
    assert found.kind.name == "total"
    assert found.kind.explained is not None
    assert found.kind.explained > 0.99
    assert found.structures == 295
    assert found.is_fit


def test_rows_of_a_database_are_read_as_the_host_does(tmp_path, slab):
    from ase.calculators.singlepoint import SinglePointCalculator

    slab.calc = SinglePointCalculator(slab, energy=-1.5, forces=np.ones((9, 3)))
    with ase.db.connect(tmp_path / "rows.aselmdb", type="aselmdb") as database:
        for sid in (5, 6):
            database.write(slab, data={"sid": sid, "fid": 2})
    found = inspect_dataset(tmp_path, NEAR)
    assert found.energy_key == "energy"
    assert found.all_forces.rms == 1.0
    assert found.atom_kinds["fixed"] == 8
    assert not any("repeat" in finding.text for finding in found.findings)


def test_where_there_is_no_dataset_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        dataset_files(tmp_path / "nowhere")
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="holds no .lmdb.*; inspect one of its folders: train"):
        dataset_files(tmp_path)
    (tmp_path / "text.lmdb").write_text("no database" * 1000)
    with pytest.raises(ValueError, match=r"text.lmdb .*is no LMDB"):
        inspect_dataset(tmp_path / "text.lmdb", NEAR)
    with pytest.raises(ValueError, match="has no samples"):
        inspect_dataset(store(tmp_path / "empty", []), NEAR)


def test_a_standard_deviation_is_positive(tmp_path, make_data):
    folder = store(tmp_path / "data", [make_data(sid) for sid in range(3)])
    with pytest.raises(ValueError, match="must be positive, not 0"):
        inspect_dataset(folder, replace(NEAR, normalizer=(0.0, 0.0)))
