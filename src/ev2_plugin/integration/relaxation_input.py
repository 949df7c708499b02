"""Structures of files that ASE reads, each with a name of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.io.formats import parse_filename, string2index

from ev2_plugin.potential.structures import from_atoms
from ev2_plugin.relax.source import check_ids


@dataclass(frozen=True)
class NamedStructure:
    """A structure and where it is from.

    Attributes:
        id: Name of the file, with the number of the frame if several are taken from the file.
        atoms: As read.
        file: Its file.
        frame: Its place in the file.
    """

    id: str
    atoms: Atoms
    file: Path
    frame: int


def read_structures(files: Sequence[str]) -> list[NamedStructure]:
    """Read all frames of files, or those that an index chooses (`file@:10`, `file@-1`, as ASE has it).

    Files of one name, such as `a/POSCAR` and `b/POSCAR`, are told apart by their folders.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If one cannot be read or holds nothing or no such frame, two structures get the same name, or a
            structure has no atoms, a periodic direction without cell, or constraints other than `FixAtoms`.
    """
    parsed = [_parse(file) for file in files]
    stems = [path.stem for path, _ in parsed]
    if len(set(stems)) < len(stems):
        stems = ["_".join(path.resolve().with_suffix("").parts[-2:]) for path, _ in parsed]
    found = []
    for (path, index), stem in zip(parsed, stems, strict=True):
        frames = _read(path)
        places = _chosen(path, index, len(frames))
        several = isinstance(places, range) and len(places) > 1
        for place in [places] if isinstance(places, int) else places:
            found.append(NamedStructure(f"{stem}_{place}" if several else stem, frames[place], path, place))
    if not found:
        raise ValueError(f"{', '.join(files)}: no structures are chosen")
    check_ids([one.id for one in found])
    for one in found:
        from_atoms([one.atoms], [one.id])  # what cannot be relaxed is an error now, not when its turn comes
    return found


def digest_of(structures: Sequence[NamedStructure]) -> str:
    """A short string that differs if a structure does."""
    found = hashlib.sha256()
    for one in structures:
        atoms = one.atoms
        fixed = [np.asarray(getattr(constraint, "index", ())) for constraint in atoms.constraints]
        for array in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, *fixed):
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _parse(file: str) -> tuple[Path, int | slice]:
    name, index = parse_filename(file)
    chosen = slice(None) if index is None else index if isinstance(index, int | slice) else string2index(index)
    if isinstance(chosen, str):
        raise ValueError(f"{file}: {chosen!r} is no index of frames, such as 0, -1, : or 2:10")
    path = Path(name)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    return path, chosen


def _chosen(path: Path, index: int | slice, count: int) -> int | range:
    try:
        return range(count)[index]
    except IndexError as error:
        raise ValueError(f"{path}@{index}: it has {count} frames, counted from 0") from error


def _read(path: Path) -> list[Atoms]:
    try:
        frames = ase.io.read(path, ":")
    except Exception as error:  # each of ASE's readers has its own
        raise ValueError(f"{path}: ASE cannot read it: {str(error) or type(error).__name__}") from error
    if not frames:
        raise ValueError(f"{path} holds no structures")
    return list(frames)
