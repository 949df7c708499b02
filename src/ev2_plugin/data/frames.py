"""Frames of the source files, one after the other, each with its labels and the name an error calls it by."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

import ase.db
import ase.io
import numpy as np
from ase import Atoms

from ev2_plugin.data.inventory import Chunk, database_ids, open_database

_OPENERS: dict[str, Callable[..., TextIOWrapper]] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
_OC20_LINE = re.compile(r"random(\d+),\s*frame(\d+)(?:,\s*(\S+))?\s*")


@dataclass(frozen=True)
class Frame:
    """One labelled structure.

    Attributes:
        atoms: The structure.
        energy: Energy [eV], or None.
        forces: Forces [eV/Å] on all atoms, constraints not applied, shape [atoms, 3], or None.
        name: File and place in it.
        source: What a trajectory cannot reach beyond: the file.
        sid: Number of the system, if the source gives one.
        fid: Number of the frame in its system, if the source gives one.
    """

    atoms: Atoms
    energy: float | None
    forces: np.ndarray | None
    name: str
    source: str
    sid: int | None = None
    fid: int | None = None

    def continues(self, before: Frame) -> bool:
        """Whether this frame belongs to the system of the frame before it in the source.

        It does if the source gives both the same `sid`; where it gives none, if both lie in one file and have the same
        atoms in the same order and the same periodic directions.
        """
        if self.sid is not None or before.sid is not None:
            return self.sid == before.sid
        return (
            self.source == before.source
            and np.array_equal(self.atoms.numbers, before.atoms.numbers)
            and np.array_equal(self.atoms.pbc, before.atoms.pbc)
        )


def read_frames(chunk: Chunk) -> Iterator[Frame]:
    """Read the frames of a chunk.

    Args:
        chunk: Of kind `ase`, `database` or `oc20`.

    Yields:
        The frames in their order.

    Raises:
        ValueError: If a file cannot be read, or the two files of the raw OC20 download disagree.
    """
    paths = [Path(file.path) for file in chunk.files]
    if chunk.rows is not None:
        yield from _read_database(paths[0], *chunk.rows)
    elif chunk.kind == "oc20":
        for structures, labels in zip(paths[::2], paths[1::2], strict=True):
            yield from _read_oc20(structures, labels)
    else:
        for path in paths:
            for index, atoms in _iterate(path):
                yield _frame(atoms, f"{path}, frame {index}", str(path))


def open_text(path: Path) -> TextIOWrapper:
    """Open a text file for reading, compressed (.xz, .gz, .bz2) or not."""
    return _OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8")


def _iterate(path: Path) -> Iterator[tuple[int, Atoms]]:
    """Let ASE read a file frame by frame."""
    frames = ase.io.iread(path, index=":")
    index = 0
    while True:
        try:
            atoms = next(frames)
        except StopIteration:
            break
        except Exception as error:  # each of ASE's readers has its own
            reason = str(error) or type(error).__name__
            raise ValueError(f"{path}: ASE cannot read frame {index}: {reason}") from error
        yield index, atoms
        index += 1
    if index == 0:
        raise ValueError(f"{path} holds no structures")


def _read_database(path: Path, start: int, stop: int) -> Iterator[Frame]:
    """Rows of the systems that begin within a range: one that began before is skipped, the last one finished."""
    ids = database_ids(path)
    with open_database(path) as database:
        before = _row(database, ids[start - 1], path) if start > 0 else None
        began_here = False
        for place in range(start, len(ids)):
            frame = _row(database, ids[place], path)
            begins = before is None or not frame.continues(before)
            if begins and place >= stop:
                return
            began_here = began_here or begins
            if not began_here and place >= stop:
                return
            if began_here:
                yield frame
            before = frame


def _row(database: ase.db.core.Database, row_id: int, path: Path) -> Frame:
    row = database.get(id=row_id)
    atoms = row.toatoms()
    atoms.info.update({**row.key_value_pairs, **(row.data if isinstance(row.data, dict) else {})})
    return _frame(atoms, f"{path}, row {row_id}", str(path))


def _read_oc20(structures: Path, labels: Path) -> Iterator[Frame]:
    """Frames of a pair of files; the second gives system, frame and the energy to subtract."""
    with open_text(labels) as file:
        lines = file.read().splitlines()
    count = 0
    for index, atoms in _iterate(structures):
        count = index + 1
        if index >= len(lines):
            continue
        match = _OC20_LINE.fullmatch(lines[index])
        if match is None or match[3] is None:
            raise ValueError(
                f"{labels}, line {index + 1}: {lines[index]!r} is not of the form random12,frame3,-45.6 "
                "(system, frame, reference energy)"
            )
        try:
            reference = float(match[3])
        except ValueError:
            raise ValueError(f"{labels}, line {index + 1}: the reference energy {match[3]!r} is no number") from None
        frame = _frame(atoms, f"{structures}, frame {index}", str(structures))
        energy = None if frame.energy is None else frame.energy - reference
        yield Frame(atoms, energy, frame.forces, frame.name, frame.source, int(match[1]), int(match[2]))
    if count != len(lines):
        raise ValueError(f"{structures} has {count} frames and {labels} {len(lines)} lines")


def _frame(atoms: Atoms, name: str, source: str) -> Frame:
    results = {} if atoms.calc is None else atoms.calc.results
    energy, forces = results.get("energy"), results.get("forces")
    return Frame(
        atoms=atoms,
        energy=None if energy is None else float(energy),
        forces=None if forces is None else np.asarray(forces, dtype=float),
        name=name,
        source=source,
        sid=_number(atoms, "sid", name),
        fid=_number(atoms, "fid", name),
    )


def _number(atoms: Atoms, key: str, name: str) -> int | None:
    """A number that the file itself gives a frame (`sid=3` in an extxyz header, say); `random3` counts as 3."""
    value = atoms.info.get(key)
    if value is None:
        return None
    match = re.fullmatch(r"(?:random|frame)?(\d+)", str(value))
    if match is None:
        raise ValueError(f"{name}: {key} is {value!r}, which is no number; remove it to have the systems numbered")
    return int(match[1])
