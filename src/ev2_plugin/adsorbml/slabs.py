"""Surfaces to place adsorbates on: from a file, or built by a name such as `Cu:111:3x3x4`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, build
from ase.constraints import FixAtoms
from ase.data import atomic_numbers, reference_states
from ase.io import read

VACUUM = 10.0
"""Empty space on either side of a slab built by name [Å]."""

SURFACE_DEPTH = 2.0
"""Atoms at most this far below the topmost belong to the surface, as in OC20 [Å]."""

_FACETS = {
    "fcc": {"111": build.fcc111, "100": build.fcc100, "110": build.fcc110, "211": build.fcc211},
    "bcc": {"110": build.bcc110, "100": build.bcc100, "111": build.bcc111},
    "hcp": {"0001": build.hcp0001, "10m10": build.hcp10m10},
}
_SPECIFICATION = re.compile(r"([A-Z][a-z]?):(\w+):(\d+)x(\d+)x(\d+)(?::a=([\d.]+))?")


@dataclass(frozen=True)
class NamedSlab:
    """A clean surface.

    Attributes:
        name: Part of the names of its systems.
        atoms: Tags 0 below the surface and 1 at it, atoms below fixed; perhaps `slab_energy` [eV] in `info`.
    """

    name: str
    atoms: Atoms


def load_slab(text: str, tagging: str = "file") -> NamedSlab:
    """Read or build a slab.

    Args:
        text: File that ASE reads (its last frame), or ELEMENT:FACET:AxBxLAYERS[:a=CONSTANT].
        tagging: Where the tags of a file come from: "file": its tags if it has any, else its fixed atoms;
            "constraints": fixed atoms 0, others 1; "height": 1 for atoms within `SURFACE_DEPTH` of the topmost.
            Atoms with tag 0 are fixed if the file fixes none.

    Raises:
        ValueError: If it is neither, or nothing says which atoms are at the surface.
        OSError: If the file cannot be read.
    """
    built = _SPECIFICATION.fullmatch(text)
    if built is not None:
        return NamedSlab(text.replace(":", "-").replace("=", ""), tagged(_build(built, text), "height", text))
    path = Path(text)
    if not path.exists():
        raise ValueError(f"slab {text!r} is neither a file nor a name like Cu:111:3x3x4")
    return NamedSlab(path.stem, tagged(read(path), tagging, text))


def tagged(atoms: Atoms, tagging: str, name: str) -> Atoms:
    """Say which atoms of a slab are at the surface, by the rules of `load_slab`.

    Raises:
        ValueError: If nothing says so, or everything or nothing would be surface.
    """
    slab = atoms.copy()
    if not all(isinstance(one, FixAtoms) for one in slab.constraints):
        raise ValueError(f"slab {name}: atoms can be fixed by FixAtoms only")
    fixed = np.zeros(len(slab), dtype=bool)
    for constraint in slab.constraints:
        fixed[constraint.index] = True
    slab.set_tags(_tags(slab, fixed, tagging, name))
    if not (slab.get_tags() == 1).any():
        raise ValueError(f"slab {name}: no atom is at the surface (tag 1); choose --surface constraints or height")
    if not fixed.any():
        fixed = slab.get_tags() == 0
    slab.set_constraint(FixAtoms(mask=fixed))
    if not fixed.any():
        raise ValueError(f"slab {name}: no atom is fixed or below the surface (tag 0); choose --surface height")
    return slab


def _tags(slab: Atoms, fixed: np.ndarray, tagging: str, name: str) -> np.ndarray:
    tags = slab.get_tags()
    if tagging == "height":
        heights = slab.positions @ _normal(slab)
        return (heights > heights.max() - SURFACE_DEPTH).astype(int)
    if tagging == "constraints" or (tagging == "file" and not tags.any() and fixed.any()):
        return (~fixed).astype(int)
    if tagging != "file":
        raise ValueError(f"--surface {tagging}: choose one of file, constraints, height")
    if not set(tags.tolist()) <= {0, 1}:
        raise ValueError(
            f"slab {name} has tags {sorted(set(tags.tolist()))}; 0 is below the surface and 1 at it. Tags that number "
            "layers are ASE's: choose --surface constraints or height"
        )
    return tags


def _normal(slab: Atoms) -> np.ndarray:
    normal = np.cross(slab.cell[0], slab.cell[1])
    return normal / np.linalg.norm(normal)


def _build(parts: re.Match[str], text: str) -> Atoms:
    element, facet, *size = parts.groups()[:5]
    state = reference_states[atomic_numbers[element]] if element in atomic_numbers else None
    structure = state["symmetry"] if state else "unknown"
    facets = _FACETS.get(structure, {})
    if facet not in facets:
        known = ", ".join(facets) or "none"
        raise ValueError(f"slab {text!r}: facets of {element} ({structure}) that can be built by name: {known}")
    constant = {"a": float(parts[6])} if parts[6] else {}
    slab = facets[facet](element, tuple(map(int, size)), vacuum=VACUUM, **constant)
    slab.pbc = True
    return slab
