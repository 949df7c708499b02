"""Single-file LMDBs of data objects, as the Open Catalyst datasets are published.

Keys are the numbers "0", "1", ... in ASCII and "length"; values are pickles, of which only data is taken.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from torch_geometric.data import Data

from ev2_plugin.data.sample import read_sample
from ev2_plugin.storage.lmdb_file import LmdbFile
from ev2_plugin.storage.pickle_stream import Damaged
from ev2_plugin.storage.safe_pickle import loads, reading

REQUIRED_KEYS = ("pos", "cell", "atomic_numbers", "natoms", "tags", "fixed", "sid")
PER_ATOM_KEYS = ("pos", "atomic_numbers", "tags", "fixed", "forces", "force", "pos_relaxed")
LENGTH_KEY = b"length"
INITIAL_MAP_BYTES = 2**24


def write_lmdb(path: Path, structures: Iterable[Data]) -> int:
    """Write data objects to a new LMDB; the file appears under its name only when it is complete.

    Args:
        path: File to create, in an existing or new folder.
        structures: Data objects in the order of their keys; read once, so a generator will do.

    Returns:
        The number of structures written.

    Raises:
        FileExistsError: If `path` exists.
        ValueError: If there are no structures, a required key is missing, a per-atom array has another length
            than `natoms`, or two structures share their `sid` and `fid`.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists: remove it or choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        count = _write_all(partial, structures)
        if count == 0:
            raise ValueError(f"no structures to write to {path}")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def read_lmdb(path: Path, indices: Iterable[int] | None = None, *, trust: bool = False) -> Iterator[Data]:
    """Read the data objects of an LMDB.

    Args:
        path: A file written by `write_lmdb` or published in the same layout.
        indices: Which to read, in this order; all in the order of their keys if None.
        trust: Whether the file comes from somebody trusted: then its pickles may hold, and execute, anything.

    Yields:
        One data object after the other, of this release of torch_geometric.

    Raises:
        FileNotFoundError: If there is no such file.
        Refused: If a value asks for anything but data. Nothing was executed.
        ValueError: If the file is truncated or damaged, is no LMDB, or lacks a key it counts.
    """
    with open_lmdb(path) as file:
        length = _length(path, file)
        for index in range(length) if indices is None else indices:
            with reading(f"{path}, entry {index}"):
                value = file.get(str(index).encode("ascii"))
            if value is None:
                raise ValueError(f"{path}: entry {index} of {length} is missing")
            with reading(f"{path}, entry {index}"):
                data = read_sample(value, trust=trust)
            yield data


def count_lmdb(path: Path, *, whole: bool = False) -> int:
    """Count the data objects of an LMDB.

    Args:
        path: As for `read_lmdb`.
        whole: Whether it is an error that the file counts more or fewer of them than it has.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated or damaged, or is no LMDB.
    """
    with open_lmdb(path) as file:
        length = _length(path, file)
        if whole and length > file.entries:
            raise ValueError(f"{path} counts {length} structures and has no more than {file.entries}")
        with reading(path):
            uncounted = whole and file.get(str(length).encode("ascii")) is not None
        if uncounted:
            raise ValueError(
                f"{path} counts {length} structures, but there is one after them, which nobody would read: it was not "
                "written to its end, or its length is wrong"
            )
        return length


def open_lmdb(path: Path) -> LmdbFile:
    """Open an LMDB for reading.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is truncated, or no LMDB.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no LMDB at {path}")
    with reading(path):
        return LmdbFile(path)


def _length(path: Path, file: LmdbFile) -> int:
    with reading(path):
        stored = file.get(LENGTH_KEY)
        return file.entries if stored is None else _number(stored)


def _number(value: bytes) -> int:
    length = loads(value)
    if not isinstance(length, int | np.integer) or length < 0:
        raise Damaged(f"its length is {length!r}")
    return int(length)


def check_data(data: Data, index: int) -> tuple[Any, Any]:
    """Check that a data object has the keys and shapes every trainer relies on.

    Args:
        data: One structure.
        index: Its place in the dataset, for messages.

    Returns:
        Its identity, `(sid, fid)`; `fid` is None for single structures.

    Raises:
        ValueError: If a required key is missing or a per-atom array has another length than `natoms`.
    """
    missing = [key for key in REQUIRED_KEYS if key not in data]
    if missing:
        raise ValueError(f"structure {index} lacks {', '.join(missing)}")
    for key in PER_ATOM_KEYS:
        if key in data and len(data[key]) != data.natoms:
            raise ValueError(f"structure {index}: {key} has {len(data[key])} rows for {data.natoms} atoms")
    return data.sid, data.fid if "fid" in data else None


def _write_all(path: Path, structures: Iterable[Data]) -> int:
    seen: set[tuple[Any, Any]] = set()
    env = lmdb.open(str(path), subdir=False, map_size=INITIAL_MAP_BYTES, lock=False, sync=False)
    try:
        for index, data in enumerate(structures):
            identity = check_data(data, index)
            if identity in seen:
                raise ValueError(f"structure {index} repeats sid {identity[0]}, fid {identity[1]}")
            seen.add(identity)
            _put(env, str(index).encode("ascii"), pickle.dumps(data, protocol=-1))
        _put(env, LENGTH_KEY, pickle.dumps(len(seen), protocol=-1))
        env.sync(True)
    finally:
        env.close()
    return len(seen)


def _put(env: lmdb.Environment, key: bytes, value: bytes) -> None:
    """Store one value, doubling the size limit of the file as often as it takes."""
    while True:
        try:
            with env.begin(write=True) as transaction:
                transaction.put(key, value)
            return
        except lmdb.MapFullError:
            env.set_mapsize(2 * env.info()["map_size"])
