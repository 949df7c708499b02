"""Adsorbates on slabs, and the same as a campaign's files have it."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import fcc111, molecule

from ev2_plugin.adsorbml.connectivity import Lattice
from ev2_plugin.adsorbml.surface_system import CleanSlab, Placements


def tagged_slab(metal: str = "Cu", size: tuple[int, int, int] = (3, 3, 3), vacuum: float = 8.0) -> Atoms:
    """A slab whose topmost layer has tag 1 and the others 0."""
    slab = fcc111(metal, size, vacuum=vacuum, periodic=True)
    slab.info = {}  # ASE's notes about sites
    slab.set_tags((slab.get_tags() == 1).astype(int))
    return slab


def adsorbed(slab: Atoms, adsorbate: str | Atoms, height: float = 1.8, atom: int = -1) -> Atoms:
    """An adsorbate on top of an atom of the slab, tags 2, its lowest atom at a height [Å]."""
    added = molecule(adsorbate) if isinstance(adsorbate, str) else adsorbate.copy()
    lowest = added.positions[added.positions[:, 2].argmin()]
    added.translate(slab.positions[atom] + [0, 0, height] - lowest)
    added.set_tags([2] * len(added))
    return slab + added


def clean(slab: Atoms, relaxed: Atoms | None = None) -> CleanSlab:
    """A clean slab, by default one that did not move when it was relaxed."""
    end = slab if relaxed is None else relaxed
    return CleanSlab(slab.numbers, end.positions, slab.positions, Lattice(slab.cell.array, slab.pbc))


def placements(*structures: Atoms) -> Placements:
    """Initial structures of a system."""
    return Placements(
        "system",
        tuple(f"random-{index:03d}" for index in range(len(structures))),
        structures[0].numbers,
        structures[0].get_tags(),
        np.stack([one.positions for one in structures]),
    )
