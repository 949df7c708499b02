import pickle

import lmdb
import pytest
import torch

from ev2_plugin.data import lmdb as module
from ev2_plugin.data.lmdb import read_lmdb, write_lmdb


def test_what_is_written_is_read_in_order(tmp_path, make_data):
    path = tmp_path / "new" / "data.0000.lmdb"
    written = [make_data(sid, fid) for sid in (4, 1) for fid in (0, 1, 2)]
    assert write_lmdb(path, iter(written)) == 6
    read = list(read_lmdb(path))
    assert [(data.sid, data.fid) for data in read] == [(4, 0), (4, 1), (4, 2), (1, 0), (1, 1), (1, 2)]
    for before, after in zip(written, read, strict=True):
        assert set(before.keys()) == set(after.keys())
        assert torch.equal(before.pos, after.pos)
        assert torch.equal(before.force, after.force)
        assert before.y == after.y


def test_the_file_has_numbered_keys_and_a_length(tmp_path, make_data):
    path = tmp_path / "data.lmdb"
    write_lmdb(path, [make_data(sid) for sid in range(3)])
    with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as env, env.begin() as transaction:
        stored = dict(transaction.cursor())
    assert set(stored) == {b"0", b"1", b"2", b"length"}
    assert pickle.loads(stored[b"length"]) == 3


def test_files_without_a_length_are_read_too(tmp_path, make_data):
    path = tmp_path / "data.lmdb"
    with lmdb.open(str(path), subdir=False, lock=False) as env, env.begin(write=True) as transaction:
        for index in range(2):
            transaction.put(str(index).encode(), pickle.dumps(make_data(index)))
    assert [data.sid for data in read_lmdb(path)] == [0, 1]


def test_a_file_grows_beyond_its_first_size(tmp_path, make_data, monkeypatch):
    monkeypatch.setattr(module, "INITIAL_MAP_BYTES", 2**15)
    path = tmp_path / "data.lmdb"
    assert write_lmdb(path, [make_data(sid) for sid in range(50)]) == 50
    assert path.stat().st_size > 2**15
    assert [data.sid for data in read_lmdb(path)] == list(range(50))


def test_nothing_is_left_of_a_dataset_that_fails_half_way(tmp_path, make_data):
    def structures():
        yield make_data(0)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        write_lmdb(tmp_path / "data.lmdb", structures())
    assert list(tmp_path.iterdir()) == []


def test_an_empty_dataset_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no structures to write"):
        write_lmdb(tmp_path / "data.lmdb", [])
    assert list(tmp_path.iterdir()) == []


def test_a_duplicate_is_refused_by_its_numbers(tmp_path, make_data):
    with pytest.raises(ValueError, match="structure 2 repeats sid 5, fid 1"):
        write_lmdb(tmp_path / "data.lmdb", [make_data(5, 1), make_data(5, 2), make_data(5, 1)])
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_left_alone(tmp_path, make_data):
    path = tmp_path / "data.lmdb"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="remove it"):
        write_lmdb(path, [make_data()])
    assert path.read_bytes() == b"precious"


def test_missing_keys_are_named(tmp_path, make_data):
    data = make_data()
    del data.tags, data.fixed
    with pytest.raises(ValueError, match="structure 0 lacks tags, fixed"):
        write_lmdb(tmp_path / "data.lmdb", [data])


def test_arrays_of_another_length_are_named(tmp_path, make_data):
    data = make_data()
    data.force = data.force[:-2]
    with pytest.raises(ValueError, match="force has 7 rows for 9 atoms"):
        write_lmdb(tmp_path / "data.lmdb", [data])


def test_a_truncated_file_is_refused(tmp_path, make_data):
    path = tmp_path / "data.lmdb"
    write_lmdb(path, [make_data(sid) for sid in range(40)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="is truncated"):
        list(read_lmdb(path))


def test_a_missing_entry_is_named(tmp_path, make_data):
    path = tmp_path / "data.lmdb"
    write_lmdb(path, [make_data(sid) for sid in range(3)])
    with lmdb.open(str(path), subdir=False, lock=False) as env, env.begin(write=True) as transaction:
        transaction.delete(b"1")
    with pytest.raises(ValueError, match="entry 1 of 3 is missing"):
        list(read_lmdb(path))


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "data.lmdb"
    path.write_text("not a database, but long enough to be looked at" * 1000)
    with pytest.raises(ValueError, match="is no LMDB"):
        list(read_lmdb(path))


def test_a_file_that_does_not_exist_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError, match="no LMDB at"):
        list(read_lmdb(tmp_path / "data.lmdb"))
    assert list(tmp_path.iterdir()) == []
