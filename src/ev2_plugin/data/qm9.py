"""The raw files of QM9, in each form that users have them, as data objects with one key per target.

=========================  ==================================================================================
form                       files
=========================  ==================================================================================
`qm9_sdf`                  gdb9.sdf, gdb9.sdf.csv, uncharacterized.txt (torch_geometric keeps them in raw/)
`qm9_archive`              dsgdb9nsd.xyz.tar.bz2 of the publication, with uncharacterized.txt beside it
`qm9_xyz`                  its files dsgdb9nsd_000001.xyz, ... unpacked, with uncharacterized.txt beside them
`qm9_pyg`                  qm9_v3.pt, which torch_geometric downloads where rdkit is missing (float32)
=========================  ==================================================================================

Units are torch_geometric's: energies in eV, dipole moment in D, polarisability in Bohr³, R² in Bohr², heat capacity in
cal/(mol K), rotational constants in GHz. `sid` is the place of the molecule in the publication, counted from 0.

Source: R. Ramakrishnan et al., Scientific Data 1, 140022 (2014), tables 2 and 3; conversion factors and energies of
single atoms are read from torch_geometric.datasets.qm9.
"""

from __future__ import annotations

import csv
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
from ase import Atoms
from torch_geometric.data import Data
from torch_geometric.datasets.qm9 import HAR2EV, KCALMOL2EV, atomrefs

from ev2_plugin.data.inventory import Chunk, SourceFile, pack
from ev2_plugin.data.structures import structure_to_data
from ev2_plugin.storage.torch_file import read_torch

TARGETS = (
    *("mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv"),
    *("U0_atom", "U_atom", "H_atom", "G_atom", "A", "B", "C"),
)
"""Names of the targets in torch_geometric's order."""

UNCHARACTERIZED = ("uncharacterized.txt", "3195404")
"""The list of molecules that the publication could not confirm; the second is figshare's name of it."""

_HARTREE = ("homo", "lumo", "gap", "zpve", "U0", "U", "H", "G")
_KCAL_PER_MOL = ("U0_atom", "U_atom", "H_atom", "G_atom")
_TO_EV = np.array(  # torch_geometric's own array of these is float32
    [HAR2EV if target in _HARTREE else KCALMOL2EV if target in _KCAL_PER_MOL else 1.0 for target in TARGETS]
)

_ATOMS = (1, 6, 7, 8, 9)
_ENERGIES = ("U0", "U", "H", "G")
_CSV_COLUMNS = (
    *("mol_id", "A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u298", "h298", "g298", "cv"),
    *("u0_atom", "u298_atom", "h298_atom", "g298_atom"),
)
_MOLECULE_FILE = re.compile(r"dsgdb9nsd_(\d+)\.xyz")


def find_qm9(folder: Path) -> list[Chunk]:
    """Find the raw files of QM9.

    Args:
        folder: Searched at any depth; a file of the table above stands for its folder.

    Returns:
        Chunks of one form, the most precise that is there.

    Raises:
        FileNotFoundError: If there is none, or a file that belongs to it is missing.
    """
    folder = folder.parent if folder.is_file() else folder
    for path in sorted(folder.rglob("gdb9.sdf")):
        return list(pack("qm9_sdf", [(path, _beside(path, "gdb9.sdf.csv"), _beside(path, *UNCHARACTERIZED))]))
    for path in sorted(folder.rglob("dsgdb9nsd*.tar.bz2")):
        return list(pack("qm9_archive", [(path, _beside(path, *UNCHARACTERIZED))]))
    molecules = sorted(path for path in folder.rglob("dsgdb9nsd_*.xyz") if _MOLECULE_FILE.fullmatch(path.name))
    if molecules:
        unconfirmed = SourceFile.of(_beside(molecules[0], *UNCHARACTERIZED))
        chunks = pack("qm9_xyz", ((path,) for path in molecules))
        return [Chunk(chunk.kind, (*chunk.files, unconfirmed), num_bytes=chunk.num_bytes) for chunk in chunks]
    for path in sorted(folder.rglob("qm9_v3.pt")):
        return list(pack("qm9_pyg", [(path,)]))
    raise FileNotFoundError(
        f"{folder} holds none of QM9's raw files: gdb9.sdf (with gdb9.sdf.csv and uncharacterized.txt), "
        "dsgdb9nsd.xyz.tar.bz2, dsgdb9nsd_*.xyz or qm9_v3.pt"
    )


def download_qm9(folder: Path) -> None:
    """Let torch_geometric fetch QM9 into `folder/raw`; the form depends on whether rdkit is there.

    Raises:
        ConnectionError: If that fails.
    """
    from torch_geometric.datasets import QM9

    class Download(QM9):
        """The raw files only: processing them would take minutes, and a copy of the whole in memory."""

        def __init__(self, root: str) -> None:
            self.root = root

    try:
        (folder / "raw").mkdir(parents=True, exist_ok=True)
        Download(str(folder)).download()
    except Exception as error:  # whatever the network or the archive raises
        raise ConnectionError(f"torch_geometric cannot download QM9 into {folder}: {error}") from error


def read_qm9(chunk: Chunk) -> Iterator[tuple[Data, str]]:
    """Read molecules, the ones that the publication could not confirm left out.

    Args:
        chunk: As `find_qm9` lists it.

    Yields:
        Data objects (`structure_to_data`, with a key per target and no cell) and the name to call each by.

    Raises:
        ValueError: If a file is not of its form.
    """
    paths = [Path(file.path) for file in chunk.files]
    if chunk.kind == "qm9_sdf":
        yield from _read_sdf(*paths)
    elif chunk.kind == "qm9_archive":
        yield from _read_archive(*paths)
    elif chunk.kind == "qm9_xyz":
        unconfirmed = read_uncharacterized(paths[-1])
        for path in paths[:-1]:
            with path.open(encoding="utf-8") as file:
                yield from _read_molecule(file, str(path), unconfirmed)
    else:
        yield from _read_pyg(paths[0])


def read_uncharacterized(path: Path) -> set[int]:
    """Read the numbers, counted from 0, of the molecules that the publication could not confirm.

    Raises:
        ValueError: If a line between the nine of the header and the last does not begin with a number.
    """
    lines = path.read_text(encoding="utf-8").split("\n")[9:-2]
    numbers = [(line.split() or [""])[0] for line in lines]
    wrong = [number for number in numbers if not number.isdigit()]
    if wrong or not numbers:
        raise ValueError(f"{path} is no list of molecules: {wrong[0] if wrong else 'nothing'!r} in place of a number")
    return {int(number) - 1 for number in numbers}


def _beside(path: Path, *names: str) -> Path:
    for name in names:
        if (path.parent / name).is_file():
            return path.parent / name
    raise FileNotFoundError(f"{path} needs {names[0]} beside it")


def _read_sdf(structures: Path, table: Path, unconfirmed: Path) -> Iterator[tuple[Data, str]]:
    skip = read_uncharacterized(unconfirmed)
    with structures.open(encoding="utf-8") as sdf, table.open(encoding="utf-8", newline="") as rows:
        reader = csv.reader(rows)
        header = tuple(next(reader, ()))
        if header != _CSV_COLUMNS:
            raise ValueError(f"{table}: columns are {', '.join(header)}; expected {', '.join(_CSV_COLUMNS)}")
        molecules = _sdf_molecules(sdf, structures)
        for index, row in enumerate(reader):
            name = f"{structures}, molecule {index + 1}"
            atoms = next(molecules, None)
            if atoms is None:
                raise ValueError(f"{structures} has {index} molecules and {table} more rows")
            if index not in skip:
                values = _numbers(row[1:], name)
                yield _molecule(atoms, index, np.array([*values[3:], *values[:3]]) * _TO_EV, name)
        if next(molecules, None) is not None:
            raise ValueError(f"{structures} has more molecules than {table} rows")


def _sdf_molecules(file: TextIO, path: Path) -> Iterator[Atoms]:
    """Atoms of each V2000 record: three lines, the counts, one line per atom (x, y, z, symbol), the end `$$$$`."""
    while True:
        record = []
        for line in file:
            if line.startswith("$$$$"):
                break
            record.append(line)
        else:
            if any(line.strip() for line in record):
                raise ValueError(f"{path} ends within a molecule: {record[0].strip()!r}")
            return
        try:
            fields = [line.split() for line in record[4 : 4 + int(record[3][:3])]]
            yield Atoms([field[3] for field in fields], [[float(value) for value in field[:3]] for field in fields])
        except (IndexError, ValueError, KeyError) as error:
            raise ValueError(f"{path}: the molecule {record[:1]} is no V2000 record: {error}") from error


def _read_archive(archive: Path, unconfirmed: Path) -> Iterator[tuple[Data, str]]:
    skip = read_uncharacterized(unconfirmed)
    with tarfile.open(archive, "r|bz2") as members:
        for member in members:
            stream = members.extractfile(member)
            if stream is not None and _MOLECULE_FILE.fullmatch(Path(member.name).name):
                lines = stream.read().decode("utf-8").splitlines()
                yield from _read_lines(lines, f"{archive}, {member.name}", skip)


def _read_molecule(file: TextIO, name: str, skip: set[int]) -> Iterator[tuple[Data, str]]:
    yield from _read_lines(file.read().splitlines(), name, skip)


def _read_lines(lines: list[str], name: str, skip: set[int]) -> Iterator[tuple[Data, str]]:
    """Number of atoms; `gdb`, index and 15 properties (table 3); symbol, x, y, z, charge of each atom."""
    try:
        natoms, properties = int(lines[0]), lines[1].split()
        index = int(properties[1]) - 1
        atoms = [line.split() for line in lines[2 : 2 + natoms]]
        structure = Atoms([atom[0] for atom in atoms], [_numbers(atom[1:4], name) for atom in atoms])
    except (IndexError, ValueError, KeyError) as error:
        raise ValueError(f"{name} is no molecule file of QM9: {error}") from error
    if len(structure) != natoms or len(properties) != 17:
        raise ValueError(f"{name}: {len(structure)} of {natoms} atoms and {len(properties)} of 17 properties")
    if index in skip:
        return
    rotational, rest = np.split(_numbers(properties[2:], name), [3])
    values = np.array([*rest, *np.zeros(4), *rotational]) * _TO_EV
    for energy in _ENERGIES:  # this form does not list the atomisation energies
        references = dict(zip(_ATOMS, atomrefs[TARGETS.index(energy)], strict=True))
        of_atoms = sum(references[number] for number in structure.numbers)
        values[TARGETS.index(f"{energy}_atom")] = values[TARGETS.index(energy)] - of_atoms
    yield _molecule(structure, index, values, name)


def _read_pyg(path: Path) -> Iterator[tuple[Data, str]]:
    for position, stored in enumerate(read_torch(path)):
        name = f"{path}, molecule {position + 1}"
        missing = {"z", "pos", "y"} - set(stored)
        if missing:
            raise ValueError(f"{name} lacks {', '.join(sorted(missing))}")
        atoms = Atoms(stored["z"].numpy(), stored["pos"].double().numpy())
        yield _molecule(atoms, int(stored.get("idx", position)), stored["y"].double().numpy().reshape(-1), name)


def _molecule(atoms: Atoms, index: int, values: np.ndarray, name: str) -> tuple[Data, str]:
    if len(values) != len(TARGETS):
        raise ValueError(f"{name}: {len(values)} targets, not {len(TARGETS)}")
    wrong = [f"{target} is {value}" for target, value in zip(TARGETS, values, strict=True) if not np.isfinite(value)]
    if wrong:
        raise ValueError(f"{name}: {', '.join(wrong)}")
    data = structure_to_data(atoms, sid=index)
    for target, value in zip(TARGETS, values.tolist(), strict=True):
        data[target] = value
    return data, name


def _numbers(fields: list[str], name: str) -> np.ndarray:
    """Numbers of text fields; some positions of the publication have the exponent as in `1.2*^-6`."""
    try:
        return np.array([float(field.replace("*^", "e")) for field in fields])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
