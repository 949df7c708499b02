"""Structures to try a model on where there are none at hand: an adsorbate on a slab and a molecule."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import fcc111, molecule
from ase.data import atomic_numbers, covalent_radii

from ev2_plugin.integration.batch_prediction import bare_structures
from ev2_plugin.integration.relaxation_input import read_structures
from ev2_plugin.potential.structures import Structures, from_atoms

METALS = ("Cu", "Pt", "Pd", "Ni", "Ag", "Au", "Al", "Rh", "Ir")
ADSORBATES = ("CO", "OH", "NH", "CH", "N2", "H2", "O2")
MOLECULES = ("CH3CH2OH", "CH3OH", "H2O", "NH3", "CH4", "CO2", "CO", "N2", "O2", "H2")
RATTLED = 0.05
"""Å."""


def named_structures(file: str | None, elements: tuple[str, ...]) -> list[Structures]:
    """The structures of a file, one each; those that are built in where there is no file.

    Args:
        file: As `read_structures` takes it.
        elements: What the model takes; empty if it does not say.

    Raises:
        ValueError: If the file cannot be read, or the model takes no element of ASE's.
    """
    if file is None:
        return [from_atoms([atoms], [name]) for name, atoms in probe_structures(elements)]
    named = read_structures([file])
    return list(bare_structures([one.atoms for one in named], [one.id for one in named]))


def probe_structures(elements: tuple[str, ...]) -> list[tuple[str, Atoms]]:
    """A slab with an adsorbate, its lower layers ideal as in Open Catalyst's data, and a molecule.

    Args:
        elements: What the model takes; empty if it does not say.

    Returns:
        Names and structures: only the slab where no molecule consists of these elements.

    Raises:
        ValueError: If none of ASE's elements is among them.
    """
    known = set(elements) or set(atomic_numbers)
    found = [("adsorbate on slab", _slab(known))]
    found += [("molecule", _rattled(molecule(name), 2)) for name in MOLECULES if _fits(name, known)][:1]
    return found


def _slab(known: set[str]) -> Atoms:
    metal = next((one for one in METALS if one in known), None)
    if metal is None:
        metal = min(known & set(atomic_numbers), key=lambda one: atomic_numbers[one], default=None)
        if metal is None:
            raise ValueError(f"none of {', '.join(sorted(known))} is an element")
    lattice = None if metal in METALS else 2 * np.sqrt(2) * covalent_radii[atomic_numbers[metal]]
    slab = fcc111(metal, (2, 2, 3), a=lattice, vacuum=6.0, periodic=True)
    name = next((one for one in ADSORBATES if _fits(one, known)), None)
    added = Atoms(metal) if name is None else molecule(name)
    lowest = added.positions[added.positions[:, 2].argmin()]
    added.translate(slab.positions[-1] + [0.2, 0.1, 1.9] - lowest)
    slab.set_tags((slab.get_tags() == 1).astype(int))
    added.set_tags([2] * len(added))
    slab.info = {}
    return _rattled(slab + added, 1)


def _fits(name: str, known: set[str]) -> bool:
    return set(molecule(name).get_chemical_symbols()) <= known


def _rattled(atoms: Atoms, seed: int) -> Atoms:
    """All atoms moved a little, but for those of a slab below its surface."""
    moved = np.random.default_rng(seed).normal(scale=RATTLED, size=(len(atoms), 3))
    inside = (atoms.get_tags() == 0) & atoms.pbc.all()
    atoms.positions += np.where(inside[:, None], 0.0, moved)
    return atoms
