"""VASP inputs with the settings of OC20 and AdsorbML, and what VASP says of a calculation in OSZICAR.

RPBE, 350 eV, no symmetry, and a k-point grid that follows the cell; a single point takes no ionic and up to 300
electronic steps, a relaxation up to 2000 and 60. POTCAR is licensed: the labels of its parts are written, in order.

Source: OC20 (arXiv:2010.09990), AdsorbML (arXiv:2211.16486) and its published inputs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np
from ase import Atoms
from ase.io import write

Unreadable = TypeVar("Unreadable", float, None)

SETTINGS: Mapping[str, str] = {
    "GGA": "RP",
    "ENCUT": "350",
    "IBRION": "2",
    "EDIFFG": "-0.03",
    "ISIF": "0",
    "ISPIN": "1",
    "ISYM": "0",
    "SYMPREC": "1e-10",
    "LREAL": "Auto",
    "LAECHG": ".FALSE.",
    "LWAVE": ".FALSE.",
    "NCORE": "4",
}

STEPS: Mapping[str, Mapping[str, str]] = {
    "single-point": {"NSW": "0", "NELM": "300"},
    "relaxation": {"NSW": "2000", "NELM": "60"},
}

ELECTRONIC_STEPS = 60
"""VASP's own NELM, where INCAR has none."""

LARGEST_CHANGE = 1e-4
"""eV; a calculation that took all its electronic steps counts if the last one changed its energy by less."""

_K_POINTS_TIMES_LENGTH = 40.0  # Å
_STEP = re.compile(r"^[A-Z]{3}:\s*\d+\s+(\S+)\s+(\S+)")
_IONIC = re.compile(r"^\s*\d+\s+F=\s*\S+\s+E0=\s*(\S+)")
_LOST_EXPONENT = re.compile(r"(?<=\d)([+-]\d+)$")  # VASP writes 0.1-100 for 0.1E-100


@dataclass(frozen=True)
class VaspResult:
    """What a finished calculation came to.

    Attributes:
        energy: Of the last geometry, extrapolated to no smearing (E0), the one ASE and OC20 take [eV].
        scf_steps: Electronic steps, of all ionic steps and all files `OSZICAR*` of the folder.
        ionic_steps: Geometries.
        converged: Whether the last geometry's electronic steps converged.
    """

    energy: float
    scf_steps: int
    ionic_steps: int
    converged: bool


def k_points(cell: np.ndarray) -> tuple[int, int, int]:
    """Grid for a slab: 40 Å over the largest Cartesian component, not the length, of each of the first two vectors."""
    along = [max(1, round(_K_POINTS_TIMES_LENGTH / float(np.abs(vector).max()))) for vector in cell[:2]]
    return along[0], along[1], 1


def write_vasp_inputs(atoms: Atoms, folder: Path, kind: str) -> None:
    """Write POSCAR, INCAR, KPOINTS and POTCAR.labels.

    Args:
        atoms: Structure with its fixed atoms; atoms are sorted by element, as VASP wants them.
        folder: Made if it is missing.
        kind: `single-point` or `relaxation`.

    Raises:
        ValueError: If the kind is unknown, or the cell is not of three vectors.
    """
    if kind not in STEPS:
        raise ValueError(f"VASP inputs of kind {kind!r}: choose one of {', '.join(STEPS)}")
    if atoms.cell.rank < 3:
        raise ValueError(f"{folder}: VASP needs a cell of three vectors, not {atoms.cell.array.tolist()}")
    atoms = atoms[np.argsort(atoms.get_chemical_symbols(), kind="stable")]
    if np.linalg.det(atoms.cell.array) < 0:  # VASP wants a right-handed cell; no atom moves
        atoms.cell = atoms.cell.array[[1, 0, 2]]
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "POSCAR", atoms, format="vasp", direct=False)
    lines = [f"{key} = {value}" for key, value in {**SETTINGS, **STEPS[kind]}.items()]
    (folder / "INCAR").write_text("\n".join(lines) + "\n", encoding="utf-8")
    grid = " ".join(map(str, k_points(atoms.cell.array)))
    (folder / "KPOINTS").write_text(f"Automatic\n0\nMonkhorst-Pack\n{grid}\n0 0 0\n", encoding="utf-8")
    labels = [f"PBE/{symbol}" for symbol, _ in groupby(atoms.get_chemical_symbols())]
    (folder / "POTCAR.labels").write_text("\n".join(labels) + "\n", encoding="utf-8")


def read_vasp_result(folder: Path) -> VaspResult | None:
    """Read what became of a calculation.

    Returns:
        None if there is none, or it broke off or still runs within an ionic step.

    Raises:
        ValueError: If an energy cannot be read.
    """
    main = folder / "OSZICAR"
    if not main.exists():
        return None
    ionic, energy, ended = _read_oszicar(main)
    if not ended or energy is None:
        return None
    every = [steps for path in sorted(folder.glob("OSZICAR*")) for steps in _read_oszicar(path)[0]]
    converged = len(ionic[-1]) < _limit(folder) or abs(ionic[-1][-1]) < LARGEST_CHANGE
    return VaspResult(energy, sum(map(len, every)), len(every), converged)


def _read_oszicar(path: Path) -> tuple[list[list[float]], float | None, bool]:
    """Energy changes of the electronic steps of each ionic step, the last E0 [eV], whether the last one ended."""
    ionic: list[list[float]] = []
    energy, ended = None, True
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        electronic, result = _STEP.match(line), _IONIC.match(line)
        if electronic:
            if ended:
                ionic.append([])
            ended = False
            ionic[-1].append(_number(electronic[2], math.inf))
        elif result:
            energy, ended = _number(result[1], None), True
            if energy is None:
                raise ValueError(f"{path}, line {number}: {line.strip()!r} has no energy E0 that can be read")
    return ionic, energy, ended and bool(ionic)


def _number(text: str, otherwise: Unreadable) -> float | Unreadable:
    """A number as VASP writes it; too large for its column, it is a row of stars."""
    try:
        return float(_LOST_EXPONENT.sub(r"E\1", text))
    except ValueError:
        return otherwise


def _limit(folder: Path) -> int:
    incar = folder / "INCAR"
    found = re.search(r"^\s*NELM\s*=\s*(\d+)", incar.read_text(encoding="utf-8"), re.M) if incar.exists() else None
    return int(found[1]) if found else ELECTRONIC_STEPS
