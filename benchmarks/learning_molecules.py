"""Small molecules in the layout of QM9, with an energy that depends on their geometry.

`U0` is EMT's energy on top of QM9's reference energies of the atoms, which recipes for QM9 subtract. It has no meaning
for chemistry, but like the real one it depends on where all atoms are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.collections import g2

from ev2_plugin.data.lmdb import read_lmdb, write_lmdb
from ev2_plugin.data.metadata import compute_metadata, write_metadata
from ev2_plugin.data.structures import structure_to_data

CUTOFF = 5.0  # Å, as the recipes
ELEMENTS = set("HCNO")


def molecules(count: int) -> list[Atoms]:
    """The first `count` molecules of ASE's G2 set that have at least three atoms, all of EMT's light elements."""
    found = (molecule(name, vacuum=CUTOFF) for name in g2.names)
    chosen = [atoms for atoms in found if len(atoms) >= 3 and set(atoms.symbols) <= ELEMENTS]
    if len(chosen) < count:
        raise ValueError(f"{count} molecules wanted, the set has {len(chosen)}")
    return chosen[:count]


def emt_energy(atoms: Atoms) -> float:
    """EMT's energy [eV]."""
    probe = atoms.copy()
    probe.calc = EMT()
    return probe.get_potential_energy()


def write_molecules(folder: Path, count: int, references: Mapping[str, float]) -> tuple[Path, torch.Tensor]:
    """Write molecules to an LMDB with `U0` [eV].

    Args:
        folder: For the LMDB and its metadata.
        count: Molecules.
        references: Energy of each free atom [eV], which `U0` includes.

    Returns:
        The LMDB, and the EMT energies [eV] of shape [molecules].
    """
    structures, energies = [], []
    for number, atoms in enumerate(molecules(count)):
        data = structure_to_data(atoms, sid=number)
        energies.append(emt_energy(atoms))
        data.U0 = energies[-1] + sum(references[symbol] for symbol in atoms.symbols)
        structures.append(data)
    path = folder / "data.lmdb"
    write_lmdb(path, structures)
    write_metadata(folder, compute_metadata(structures, CUTOFF, max_neighbors=500))
    return path, torch.tensor(energies)


def composition_error(path: Path, energies: torch.Tensor) -> float:
    """Mean absolute error [eV] of the best energies per element, which know the atoms but not where they are.

    Args:
        path: The LMDB.
        energies: Of its molecules [eV].
    """
    counts = torch.stack([torch.bincount(data.atomic_numbers, minlength=10) for data in read_lmdb(path)]).double()
    used = counts[:, counts.any(dim=0)]
    best = torch.linalg.lstsq(used, energies.double().unsqueeze(1), driver="gelsd").solution
    return float((used @ best - energies.unsqueeze(1)).abs().mean())
