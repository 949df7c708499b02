"""ASE structures to Open Catalyst data objects and back.

A data object is what the Open Catalyst LMDBs hold, one `torch_geometric` `Data` per structure:

====================  =============  ========  ==========================================================
key                   shape          unit      meaning
====================  =============  ========  ==========================================================
`pos`                 [atoms, 3]     Å         positions
`cell`                [1, 3, 3]      Å         cell vectors as rows
`pbc`                 [1, 3]                   periodic directions
`atomic_numbers`      [atoms]                  atomic numbers
`natoms`              int                      number of atoms
`tags`                [atoms]                  0 below the surface, 1 surface, 2 adsorbate
`fixed`               [atoms]                  1 for atoms that relaxations leave in place
`sid`, `fid`          int                      system and frame; single structures have no `fid`
`y`                   float          eV        the energy label, referenced as its writer says
`force`               [atoms, 3]     eV/Å      forces on all atoms, constraints not applied
====================  =============  ========  ==========================================================

`y` and `force` are the names of the published files; the trainers ask for `energy` and `forces`, so a dataset's
`key_mapping` renames them while it is read. Both spellings at once would make that renaming fail.
"""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from ase.constraints import FixAtoms
from torch_geometric.data import Data


def fixed_atoms(atoms: Atoms) -> np.ndarray:
    """Mark the atoms held by `FixAtoms` constraints.

    Args:
        atoms: Structure of `n` atoms.

    Returns:
        Booleans of shape [n].

    Raises:
        ValueError: If there is a constraint of another kind, which the Open Catalyst layout cannot express.
    """
    fixed = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            raise ValueError(f"only FixAtoms constraints can be stored, not {type(constraint).__name__}")
        fixed[constraint.index] = True
    return fixed


def periodicity(data: Data) -> np.ndarray:
    """Periodic directions of a structure, three flags; published files without `pbc` are periodic in all of them."""
    return data.pbc.numpy().reshape(3) if "pbc" in data else np.ones(3, dtype=bool)


def s2ef_labels(data: Data, name: str) -> tuple[float, torch.Tensor]:
    """Energy and forces of a structure, under the trainers' names or those of the published files.

    Args:
        data: Object with `energy` or `y`, and `forces` or `force`.
        name: What to call the structure in an error.

    Returns:
        Energy [eV] and forces [eV/Å], [atoms, 3].

    Raises:
        ValueError: If a label is missing.
    """
    names = {"energy": ("energy", "y"), "forces": ("forces", "force")}
    found = {label: [data[key] for key in keys if key in data] for label, keys in names.items()}
    missing = [label for label, values in found.items() if not values]
    if missing:
        raise ValueError(f"{name} has no {' and no '.join(missing)}")
    return float(found["energy"][0]), found["forces"][0]


def structure_to_data(
    atoms: Atoms,
    *,
    sid: int,
    fid: int | None = None,
    energy: float | None = None,
    forces: np.ndarray | None = None,
) -> Data:
    """Turn a structure and its labels into one data object (the table above).

    Args:
        atoms: Structure; its tags are kept, its `FixAtoms` become `fixed`. Cell vectors that are missing in directions
            that are not periodic become unit vectors, as where the host reads structures itself.
        sid: Number of the system, equal for all frames of one trajectory.
        fid: Number of the frame within its system.
        energy: Label [eV], total or referenced, as the dataset defines it.
        forces: Labels [eV/Å] of shape [atoms, 3], constraints not applied.

    Returns:
        The data object; floating-point values are float32, as published files have them.

    Raises:
        ValueError: If the cell has no volume, a number is not finite, or `forces` has another shape.
    """
    cell = atoms.cell.complete() if not (atoms.pbc & ~atoms.cell.any(axis=1)).any() else atoms.cell
    if abs(cell.volume) < 1e-6:
        raise ValueError(f"system {sid}: the cell has no volume: {atoms.cell.tolist()}")
    data = Data(
        pos=_finite_float(atoms.positions, f"positions of system {sid}"),
        cell=_finite_float(cell.array, f"cell of system {sid}").view(1, 3, 3),
        pbc=torch.tensor(atoms.pbc, dtype=torch.bool).view(1, 3),
        atomic_numbers=torch.tensor(atoms.numbers, dtype=torch.long),
        natoms=len(atoms),
        tags=torch.tensor(atoms.get_tags(), dtype=torch.long),
        fixed=torch.tensor(fixed_atoms(atoms), dtype=torch.float32),
        sid=int(sid),
    )
    if fid is not None:
        data.fid = int(fid)
    if energy is not None:
        if not np.isfinite(energy):
            raise ValueError(f"energy of system {sid} is {energy}")
        data.y = float(energy)
    if forces is not None:
        if np.shape(forces) != (len(atoms), 3):
            raise ValueError(f"forces of system {sid}: shape {np.shape(forces)}, needed {(len(atoms), 3)}")
        data.force = _finite_float(forces, f"forces of system {sid}")
    return data


def data_to_structure(data: Data, positions: np.ndarray | None = None) -> Atoms:
    """Turn a data object into a structure with tags and fixed atoms.

    Args:
        data: One structure (not a batch).
        positions: Other positions [Å] of shape [atoms, 3] to use in place of `data.pos`.

    Returns:
        The structure, without labels.
    """
    return Atoms(
        numbers=data.atomic_numbers.numpy(),
        positions=np.asarray(data.pos if positions is None else positions, dtype=float),
        cell=data.cell.numpy().reshape(3, 3).astype(float),
        pbc=periodicity(data),
        tags=data.tags.numpy(),
        constraint=FixAtoms(mask=data.fixed.numpy() == 1),
    )


def _finite_float(values: np.ndarray, what: str) -> torch.Tensor:
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all():
        raise ValueError(f"{what}: {int((~np.isfinite(values)).sum())} values are not finite")
    return torch.tensor(values, dtype=torch.float32)
