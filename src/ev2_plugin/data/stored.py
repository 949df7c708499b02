"""Samples of a dataset in any layout that the host reads, as they are stored: nothing is checked or mended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.constraints import FixAtoms
from torch_geometric.data import Data

from ev2_plugin.data.inventory import DATABASE_SUFFIXES, database_ids, open_database
from ev2_plugin.data.lmdb import count_lmdb, read_lmdb


def dataset_files(path: Path) -> list[Path]:
    """List the files of a dataset in the host's order.

    Args:
        path: One file, or a folder of .lmdb files or of ASE databases.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is a folder without such files.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist")
    for suffixes in ((".lmdb",), DATABASE_SUFFIXES):
        found = sorted(file for file in path.iterdir() if file.suffix in suffixes and not file.name.startswith("."))
        if found:
            return found
    inside = sorted(folder.name for folder in path.iterdir() if folder.is_dir())
    advice = f"; inspect one of its folders: {', '.join(inside)}" if inside else ""
    raise ValueError(f"{path} holds no .lmdb, .aselmdb or .db files{advice}")


def count_samples(files: list[Path]) -> int:
    """Count the samples of a dataset's files."""
    return sum(len(database_ids(file)) if file.suffix in DATABASE_SUFFIXES else count_lmdb(file) for file in files)


def read_samples(files: list[Path], *, trust: bool = False) -> Iterator[tuple[str, Data]]:
    """Read all samples.

    Args:
        files: As `dataset_files` lists them.
        trust: As for `read_lmdb`.

    Yields:
        The name of each sample (file and place) and its data object.

    Raises:
        Refused: If a value asks for anything but data. Nothing was executed.
        ValueError: If a file is truncated or no database.
    """
    for file in files:
        if file.suffix in DATABASE_SUFFIXES:
            with open_database(file) as database:
                for row_id in database_ids(file):
                    yield f"{file}, row {row_id}", _from_row(database.get(id=row_id))
        else:
            for index, data in enumerate(read_lmdb(file, trust=trust)):
                yield f"{file}, entry {index}", data


def followed_samples(files: list[Path], follow: Callable[[str, int, int], None]) -> Iterator[tuple[str, Data]]:
    """As `read_samples`, counted as they go by.

    Args:
        files: Of one dataset.
        follow: Called with `structures`, how many were taken, and all of them.
    """
    total = count_samples(files)
    for done, sample in enumerate(read_samples(files), start=1):
        yield sample
        follow("structures", done, total)


def read_chosen(files: list[Path], numbers: Iterable[int]) -> Iterator[Data]:
    """Read some samples of a dataset, without those before them.

    Args:
        files: As `dataset_files` lists them.
        numbers: Which, counted through all files from 0, in the order wanted.

    Raises:
        IndexError: If there are fewer samples.
        Refused: If a value asks for anything but data. Nothing was executed.
        ValueError: If a file is truncated or no database.
    """
    ends = np.cumsum([count_samples([file]) for file in files])
    for number in numbers:
        place = int(np.searchsorted(ends, number, side="right"))
        if place == len(files):
            raise IndexError(f"sample {number} of {ends[-1]} in {', '.join(map(str, files))}")
        file, index = files[place], int(number - (ends[place - 1] if place else 0))
        if file.suffix in DATABASE_SUFFIXES:
            with open_database(file) as database:
                yield _from_row(database.get(id=database_ids(file)[index]))
        else:
            yield from read_lmdb(file, [index])


def _from_row(row: Any) -> Data:
    """What the host's `ase_db` dataset makes of a row, labels under the trainers' names."""
    atoms: Atoms = row.toatoms()
    fixed = np.zeros(len(atoms))
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            fixed[constraint.index] = 1
    stored = row.data if isinstance(row.data, dict) else {}
    data = Data(
        pos=torch.tensor(atoms.positions),
        cell=torch.tensor(atoms.cell.complete().array).view(1, 3, 3),
        pbc=torch.tensor(atoms.pbc),
        atomic_numbers=torch.tensor(atoms.numbers),
        natoms=len(atoms),
        tags=torch.tensor(atoms.get_tags()),
        fixed=torch.tensor(fixed),
        sid=stored.get("sid", row.id),
        fid=stored.get("fid", 0),
    )
    results = {} if atoms.calc is None else atoms.calc.results
    if "energy" in results:
        data.energy = float(results["energy"])
    if "forces" in results:
        data.forces = torch.tensor(results["forces"])
    return data
