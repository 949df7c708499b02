"""Every fault of a file is found and named; good files pass."""

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from ev2_plugin.data.lmdb import read_lmdb, write_lmdb
from ev2_plugin.submission import expected as expected_module
from ev2_plugin.submission.check import check_submission
from ev2_plugin.submission.expected import read_expected
from ev2_plugin.submission.verdict import Verdict, list_ids
from submission.conftest import OC20, OC22, Split

Arrays = dict[str, np.ndarray]
NAMES = ["120_3", "103_0", "111_12", "107_1"]  # of the split `id`, in the order of its test set


def submission(splits: Mapping[str, Split], task: str, names: tuple[str, ...] = OC20) -> Arrays:
    return {f"{name}_{key}": value for name in names for key, value in splits[name].predictions(task).items()}


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def checked(path: Path, splits: Mapping[str, Split], task: str, *, compare: bool = True) -> Verdict:
    test_sets = {name: [splits[name].lmdb] for name in OC20} if compare else {}
    return check_submission(path, "oc20", task, test_sets)


@pytest.fixture
def s2ef(all_splits: Mapping[bool, Mapping[str, Split]]) -> Mapping[str, Split]:
    return all_splits[True]


def test_whole_files_pass(task: str, splits: Mapping[str, Split], tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", submission(splits, task))
    for compare in (True, False):
        verdict = checked(path, splits, task, compare=compare)
        assert verdict.passes
        assert [split.split for split in verdict.splits] == list(OC20)
        assert {split.structures for split in verdict.splits} == {4}
        assert {split.expected for split in verdict.splits} == {4 if compare else None}
    oc22 = write(tmp_path / "b.npz", submission(splits, task, OC22))
    assert check_submission(oc22, "oc22", task, {name: [splits[name].lmdb] for name in OC22}).passes


def test_the_hosts_order_passes_with_a_remark(s2ef: Mapping[str, Split], tmp_path: Path) -> None:
    arrays = submission(s2ef, "s2ef")
    reorder(arrays, [1, 3, 2, 0])
    verdict = checked(write(tmp_path / "a.npz", arrays), s2ef, "s2ef")
    assert verdict.passes
    first, second, *_ = verdict.splits
    order = "in the order of the ids as text, as fairchem writes it; the data set has another"
    shape = "energy has shape (4, 1), as fairchem 1.10 writes it; older ones write (4,)"
    assert first.remarks == (shape, order)
    assert second.remarks == (shape,)


def reorder(arrays: Arrays, order: list[int]) -> None:
    """Put the structures of the split `id` into another order."""
    arrays["id_ids"], arrays["id_energy"] = arrays["id_ids"][order], arrays["id_energy"][order]
    blocks = np.split(arrays["id_forces"], arrays["id_chunk_idx"])
    arrays["id_forces"] = np.concatenate([blocks[place] for place in order])
    arrays["id_chunk_idx"] = np.cumsum([len(blocks[place]) for place in order])[:-1]


def without(arrays: Arrays, place: int) -> None:
    reorder(arrays, [other for other in range(len(arrays["id_ids"])) if other != place])


def repeat(arrays: Arrays) -> None:
    reorder(arrays, [0, 1, 2, 3, 1])


def set_value(key: str, index: object, value: object) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays[key] = arrays[key].copy()
        arrays[key][index] = value

    return change


def replace(key: str, make: Callable[[np.ndarray], np.ndarray]) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.update({key: make(arrays[key])})


def rename(old: str, new: str) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.update({new: arrays.pop(old)})


def drop(*keys: str) -> Callable[[Arrays], None]:
    return lambda arrays: [arrays.pop(key) for key in keys] and None


def with_fixed_atoms(arrays: Arrays) -> None:
    """Forces of all atoms: what the split has, filled up."""
    lengths = [5, 4, 6, 3]
    arrays["id_forces"] = np.zeros((sum(lengths), 3), dtype=np.float32)
    arrays["id_chunk_idx"] = np.cumsum(lengths)[:-1]


FAULTS = {
    "missing ids": (lambda a: without(a, 2), ["missing ids: 1 of the data set's 4: 111_12"]),
    "unknown ids": (
        set_value("id_ids", 2, "9_9"),
        ["missing ids: 1 of the data set's 4: 111_12", "unknown ids: 1 are not in the data set: 9_9"],
    ),
    "duplicate": (repeat, ["duplicate ids: 1 come more than once: 103_0"]),
    "order": (
        lambda a: reorder(a, [1, 0, 2, 3]),
        ["order: neither that of the data set nor that of the ids: 103_0 stands where 120_3 does"],
    ),
    "only the ids in another order": (
        replace("id_ids", lambda ids: ids[[1, 0, 2, 3]]),
        [
            "order: neither that of the data set nor that of the ids: 103_0 stands where 120_3 does",
        ],
    ),
    "cuts with the end": (
        replace("id_chunk_idx", lambda cuts: np.append(cuts, 13)),
        ["chunk_idx: 4 cuts for 4 structures, needed 3"],
    ),
    "cuts that descend": (
        replace("id_chunk_idx", lambda cuts: cuts[::-1]),
        ["chunk_idx: cuts must ascend from 0 to 13, the number of rows"],
    ),
    "cuts beyond the end": (
        set_value("id_chunk_idx", 2, 14),
        ["chunk_idx: cuts must ascend from 0 to 13, the number of rows"],
    ),
    "cuts of float": (
        replace("id_chunk_idx", lambda cuts: cuts.astype(float)),
        ["chunk_idx: must be a list of integers, got float64 of shape (3,)"],
    ),
    "cuts at the wrong places": (
        set_value("id_chunk_idx", 0, 4),
        [
            "number of atoms: 2 structures need the forces of free atoms and have another number; the first has 4 rows "
            "for 3 atoms: 120_3, 103_0"
        ],
    ),
    "forces of fixed atoms": (
        with_fixed_atoms,
        [
            "number of atoms: 3 structures need the forces of free atoms and have another number; the first has 5 rows "
            "for 3 atoms (rows are those of all atoms): 120_3, 103_0, 107_1"
        ],
    ),
    "NaN energy": (set_value("id_energy", 3, np.nan), ["not finite: energy of 1 structures: 107_1"]),
    "infinite force": (set_value("id_forces", (3, 1), np.inf), ["not finite: forces of 1 structures: 103_0"]),
    "last force NaN": (set_value("id_forces", (12, 0), np.nan), ["not finite: forces of 1 structures: 107_1"]),
    "half precision": (
        replace("id_energy", lambda energy: energy.astype(np.float16)),
        ["dtype: energy is float16, which rounds an energy of -7.3 eV by up to 0.002 eV; needed float32 or float64"],
    ),
    "integers": (
        replace("id_forces", lambda forces: forces.astype(np.int32)),
        ["dtype: forces is int32; needed float32 or float64"],
    ),
    "energies short": (
        replace("id_energy", lambda energy: energy[:3]),
        ["energy: shape (3, 1), needed (4,) for 4 ids"],
    ),
    "flat forces": (
        replace("id_forces", np.ravel),
        ["forces: shape (39,), needed (atoms, 3) for 4 ids"],
    ),
    "numbers for ids": (
        replace("id_ids", lambda ids: np.arange(4)),
        ["ids: must be a list of texts, got int64 of shape (4,)"],
    ),
    "nothing": (replace("id_ids", lambda ids: ids[:0]), ["ids: there is no structure"]),
    "missing key": (drop("id_forces"), ["missing keys: forces (there is ids, energy, chunk_idx)"]),
    "missing split": (
        drop("id_ids", "id_energy", "id_forces", "id_chunk_idx"),
        ["missing split: no key of the file begins with id_ and ends as the task's do"],
    ),
}
DEPEND_ON_TEST_SETS = (
    *("missing ids", "unknown ids", "order", "only the ids in another order", "forces of fixed atoms"),
    "cuts at the wrong places",
)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str, s2ef: Mapping[str, Split], tmp_path: Path) -> None:
    arrays = submission(s2ef, "s2ef")
    change, expected = FAULTS[fault]
    change(arrays)
    path = write(tmp_path / "a.npz", arrays)
    verdict = checked(path, s2ef, "s2ef")
    assert [str(one) for one in verdict.splits[0].faults] == expected
    assert not verdict.passes
    assert not any(split.faults for split in verdict.splits[1:])
    assert checked(path, s2ef, "s2ef", compare=False).passes == (fault in DEPEND_ON_TEST_SETS)


def test_keys_of_other_names(s2ef: Mapping[str, Split], tmp_path: Path) -> None:
    arrays = submission(s2ef, "s2ef")
    rename("ood_ads_energy", "ood_ads_energies")(arrays)
    verdict = checked(write(tmp_path / "a.npz", arrays), s2ef, "s2ef")
    assert [str(fault) for fault in verdict.faults] == ["unknown keys: ood_ads_energies"]
    (fault,) = verdict.splits[1].faults
    assert str(fault) == "missing keys: energy (there is ids, forces, chunk_idx)"


def test_positions_are_those_of_all_atoms(all_splits: Mapping[bool, Mapping[str, Split]], tmp_path: Path) -> None:
    splits = all_splits[False]
    arrays = submission(splits, "is2rs")
    free = [rows[fixed:] for rows, (_, _, _, fixed) in zip(splits["id"].rows, splits["id"].systems, strict=True)]
    arrays["id_pos"], arrays["id_chunk_idx"] = np.concatenate(free), np.cumsum([len(one) for one in free])[:-1]
    (fault,) = checked(write(tmp_path / "a.npz", arrays), splits, "is2rs").splits[0].faults
    assert fault.ids == ("120", "103", "107")
    assert "need the pos of all atoms" in fault.text
    assert "(rows are those of free atoms)" in fault.text


def test_a_structure_without_free_atoms_has_no_forces(tmp_path: Path, s2ef: Mapping[str, Split]) -> None:
    structures = list(read_lmdb(s2ef["id"].lmdb))
    structures[1].fixed[:] = 1
    write_lmdb(tmp_path / "test.lmdb", structures)
    arrays = submission(s2ef, "s2ef", OC22)
    blocks = np.split(arrays["id_forces"], arrays["id_chunk_idx"])
    blocks[1] = blocks[1][:0]
    arrays["id_forces"], arrays["id_chunk_idx"] = np.concatenate(blocks), np.cumsum([len(b) for b in blocks])[:-1]
    path = write(tmp_path / "a.npz", arrays)
    test_sets = {"id": [tmp_path / "test.lmdb"], "ood": [s2ef["ood"].lmdb]}
    assert check_submission(path, "oc22", "s2ef", test_sets).passes
    (fault,) = check_submission(path, "oc22", "s2ef", {}).splits[0].faults
    assert str(fault) == "number of atoms: 1 structures have no forces: 103_0"


def test_one_split_given_twice(s2ef: Mapping[str, Split], tmp_path: Path) -> None:
    arrays = submission(s2ef, "s2ef")
    for key in ("ids", "energy", "forces", "chunk_idx"):
        arrays[f"ood_both_{key}"] = arrays[f"id_{key}"]
    verdict = checked(write(tmp_path / "a.npz", arrays), s2ef, "s2ef", compare=False)
    (fault,) = verdict.splits[3].faults
    assert str(fault) == "copy: its ids are those of the split id: one source for both"


def test_objects_are_refused_unopened(s2ef: Mapping[str, Split], tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return pytest.fail, ("a pickle was opened",)

    arrays = submission(s2ef, "s2ef")
    arrays["ood_ads_ids"] = np.array([Bomb()] * 4, dtype=object)
    verdict = checked(write(tmp_path / "a.npz", arrays), s2ef, "s2ef")
    (fault,) = verdict.splits[1].faults
    assert fault.kind == "unreadable"
    assert "ood_ads_ids cannot be read: Object arrays cannot be loaded when allow_pickle=False" in fault.text


def test_damaged_files(s2ef: Mapping[str, Split], tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", submission(s2ef, "s2ef"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is no .npz archive, or is cut off"):
        checked(path, s2ef, "s2ef")
    spoilt = bytearray(whole)
    place = whole.index(b"id_forces.npy") + 150
    spoilt[place] ^= 255
    path.write_bytes(bytes(spoilt))
    (fault,) = checked(path, s2ef, "s2ef").splits[0].faults
    assert fault.kind == "unreadable"
    assert "id_forces cannot be read" in fault.text


def test_all_ids_go_into_a_file(s2ef: Mapping[str, Split], tmp_path: Path) -> None:
    arrays = submission(s2ef, "s2ef")
    reorder(arrays, [3])
    set_value("ood_ads_ids", 0, "5_5")(arrays)
    verdict = checked(write(tmp_path / "a.npz", arrays), s2ef, "s2ef")
    assert list_ids(verdict, tmp_path / "ids.tsv") == 5
    assert (tmp_path / "ids.tsv").read_text().splitlines() == [
        "id\tmissing ids\t120_3",
        "id\tmissing ids\t103_0",
        "id\tmissing ids\t111_12",
        "ood_ads\tmissing ids\t220_3",
        "ood_ads\tunknown ids\t5_5",
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_test_sets_of_several_files_keep_the_hosts_order(
    workers: int, s2ef: Mapping[str, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def last_first(jobs: Sequence[Callable[[], object]], number: int) -> Iterator[object]:
        assert number == workers
        return (pickle.loads(pickle.dumps(job))() for job in (reversed(jobs) if workers > 1 else jobs))

    monkeypatch.setattr(expected_module, "run_jobs", last_first)
    structures = list(read_lmdb(s2ef["id"].lmdb))
    for number, part in enumerate((structures[:1], structures[1:2], structures[2:])):
        write_lmdb(tmp_path / f"data.{number:04}.lmdb", part)
    calls: list[tuple[int, int]] = []
    expected = read_expected([tmp_path], True, workers, lambda *done: calls.append(done))
    assert expected.ids.tolist() == NAMES
    assert expected.atoms.tolist() == [5, 4, 6, 3]
    assert expected.free.tolist() == [3, 3, 6, 1]
    assert calls[-1] == (4, 4)


def test_test_sets_that_do_not_serve(all_splits: Mapping[bool, Mapping[str, Split]], tmp_path: Path) -> None:
    lmdb = all_splits[False]["id"].lmdb
    with pytest.raises(ValueError, match=r"entry 0 has no fid: is it a set for this task\?"):
        read_expected([lmdb], has_frames=True)
    with pytest.raises(ValueError, match=r"4 ids come more than once: 103, 107, 111, 120; is a file given twice\?"):
        read_expected([lmdb, lmdb], has_frames=False)
    path = write(tmp_path / "a.npz", submission(all_splits[False], "is2re"))
    with pytest.raises(ValueError, match="oc20 has the splits id, ood_ads, ood_cat, ood_both, not ood"):
        check_submission(path, "oc20", "is2re", {"ood": [lmdb]})
    with pytest.raises(FileNotFoundError, match="does not exist"):
        check_submission(path, "oc20", "is2re", {"id": [tmp_path / "none.lmdb"]})
