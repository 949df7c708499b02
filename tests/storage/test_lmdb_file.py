"""LMDB files read page by page: the same as the library reads, and an error where the library would end the process."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from ev2_plugin.data.lmdb import read_lmdb
from ev2_plugin.storage.lmdb_file import LmdbFile
from ev2_plugin.storage.pickle_stream import Damaged


def written(path: Path, content: dict[bytes, bytes]) -> Path:
    env = lmdb.open(str(path), subdir=False, map_size=2**26, lock=False, sync=False)
    with env, env.begin(write=True) as transaction:
        for key, value in content.items():
            transaction.put(key, value)
    return path


def numbered(count: int, largest: int) -> dict[bytes, bytes]:
    made = random.Random(0)
    return {str(index).encode(): made.randbytes(made.randint(0, largest)) for index in range(count)}


@pytest.mark.parametrize(("count", "largest"), [(1, 10), (5, 20_000), (400, 600), (3000, 50), (300, 9000)])
def test_values_are_those_that_the_library_wrote(tmp_path: Path, count: int, largest: int) -> None:
    content = numbered(count, largest)
    with LmdbFile(written(tmp_path / "a.lmdb", content)) as file:
        assert file.entries == count
        assert list(file.keys()) == sorted(content)
        assert all(file.get(key) == value for key, value in content.items())
        assert [file.get(key) for key in (b"", b"a", b"00", b"999999")] == [None] * 4


def test_what_was_changed_and_removed_later_is_seen(tmp_path: Path) -> None:
    path = written(tmp_path / "a.lmdb", numbered(500, 300))
    with lmdb.open(str(path), subdir=False, lock=False) as env, env.begin(write=True) as transaction:
        transaction.delete(b"7")
        transaction.put(b"8", b"new")
    with LmdbFile(path) as file:
        assert file.entries == 499
        assert file.get(b"7") is None
        assert file.get(b"8") == b"new"


def test_an_empty_file_has_no_keys(tmp_path: Path) -> None:
    with LmdbFile(written(tmp_path / "a.lmdb", {})) as file:
        assert (file.entries, list(file.keys()), file.get(b"0")) == (0, [], None)


def test_files_of_several_values_for_a_key_are_refused(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "a.lmdb"), subdir=False, max_dbs=2) as env:
        table = env.open_db(b"named", dupsort=True)
        with env.begin(write=True) as transaction:
            transaction.put(b"a", b"b", db=table)
    with LmdbFile(tmp_path / "a.lmdb") as file, pytest.raises(Damaged, match="several values"):
        file.get(b"named")


def test_pages_in_a_circle_are_found(tmp_path: Path) -> None:
    path = written(tmp_path / "a.lmdb", numbered(3000, 50))
    with LmdbFile(path) as file:
        root = file._root
    content = bytearray(path.read_bytes())
    page = 4096 * root
    lower = int.from_bytes(content[page + 12 : page + 14], "little")
    for slot in range(page + 16, page + lower, 2):  # every node of the root is to lead to the root
        node = page + int.from_bytes(content[slot : slot + 2], "little")
        content[node : node + 6] = root.to_bytes(6, "little")
    path.write_bytes(content)
    with LmdbFile(path) as file:
        with pytest.raises(Damaged, match="circle"):
            file.get(b"5")
        with pytest.raises(Damaged, match="circle"):
            list(file.keys())


READ_BY_LIBRARY = """
import lmdb, sys
env = lmdb.open(sys.argv[1], subdir=False, readonly=True, lock=False)
print(len([value for _, value in env.begin().cursor()]))
"""


def test_a_truncated_file_that_ends_the_librarys_process_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path / "a.lmdb", numbered(300, 600))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = subprocess.run([sys.executable, "-c", READ_BY_LIBRARY, str(path)], capture_output=True, check=False)
    assert done.returncode < 0, "a signal ends the library's reader: should it not, ours is not needed"
    with pytest.raises(ValueError, match=r"a.lmdb.*is truncated"):
        list(read_lmdb(path))


def test_a_file_that_is_cut_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path / "a.lmdb", numbered(300, 600))
    with LmdbFile(path) as file:
        with path.open("r+b") as other:
            other.truncate(3 * 4096)
        with pytest.raises(Damaged, match="truncated while it was read"):
            [file.get(str(index).encode()) for index in range(300)]
