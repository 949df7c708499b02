"""Single-file LMDBs of data objects, as the Open Catalyst datasets are published.

Keys are the numbers "0", "1", ... in ASCII and "length"; values are pickles. Only open files you trust:
unpickling runs code of the file's author.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
from torch_geometric.data import Data

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
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def read_lmdb(path: Path, indices: Iterable[int] | None = None) -> Iterator[Data]:
    """Read the data objects of an LMDB.

    Args:
        path: A file written by `write_lmdb` or published in the same layout.
        indices: Which to read, in this order; all in the order of their keys if None.

    Yields:
        One data object after the other.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated, is no LMDB, or lacks a key it counts.
    """
    with _open_readonly(path) as env, env.begin() as transaction:
        length = _length(env, transaction)
        for index in range(length) if indices is None else indices:
            value = transaction.get(str(index).encode("ascii"))
            if value is None:
                raise ValueError(f"{path}: entry {index} of {length} is missing")
            yield pickle.loads(value)


def count_lmdb(path: Path) -> int:
    """Count the data objects of an LMDB; errors as in `read_lmdb`."""
    with _open_readonly(path) as env, env.begin() as transaction:
        return _length(env, transaction)


def _length(env: lmdb.Environment, transaction: lmdb.Transaction) -> int:
    stored_length = transaction.get(LENGTH_KEY)
    return env.stat()["entries"] if stored_length is None else pickle.loads(stored_length)


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


@contextmanager
def _open_readonly(path: Path) -> Iterator[lmdb.Environment]:
    if not path.is_file():
        raise FileNotFoundError(f"no LMDB at {path}")
    try:
        env = lmdb.open(str(path), subdir=False, readonly=True, lock=False, max_readers=1)
    except lmdb.Error as error:
        raise ValueError(f"{path} is no LMDB: {error}") from error
    try:
        # Reading a page that a truncated file lacks would kill the process, so compare the sizes first.
        needed = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        if path.stat().st_size < needed:
            raise ValueError(f"{path} is truncated: {path.stat().st_size} bytes of {needed}")
        yield env
    finally:
        env.close()
