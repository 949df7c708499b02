"""Which atoms are fixed, which lie deep, at the surface or on it: what a file says, and what is made of it.

==============================================  ==========================================================
a structure with                                gets the tags
==============================================  ==========================================================
tags 0, 1, 2, not all 0                         as they are (Open Catalyst: subsurface, surface, adsorbate)
all tags 0, periodic, some atoms fixed          fixed atoms 0, free atoms 1: adsorbates are not known apart
all tags 0 otherwise                            0
other tags                                      refused: ASE's builders number layers, 1 being the top one
==============================================  ==========================================================

Tags matter to structures that relax: positions are learnt of free atoms with tag 1 or 2. EquiformerV2 itself does
not see them.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

from ev2_plugin.data.structures import fixed_atoms

RULES = ("the file's tags", "fixed atoms 0, free atoms 1", "all 0")


def assign_tags(atoms: Atoms, from_constraints: bool) -> int:
    """Set the tags of a structure by the table above.

    Args:
        atoms: The structure, changed in place.
        from_constraints: Do not look at the file's tags.

    Returns:
        The place in `RULES` of the rule that applied.

    Raises:
        ValueError: If the file has other tags than 0, 1, 2, or a constraint is none of fixed atoms.
    """
    tags = np.zeros(len(atoms), dtype=int) if from_constraints else atoms.get_tags()
    if tags.any():
        if not set(tags.tolist()) <= {0, 1, 2}:
            raise ValueError(
                f"tags {sorted(set(tags.tolist()))} are not 0 (subsurface), 1 (surface), 2 (adsorbate), perhaps "
                "layer numbers of ASE's builders; set them, or pass --tags constraints to take them from fixed atoms"
            )
        return 0
    fixed = fixed_atoms(atoms)
    if atoms.pbc.any() and fixed.any() and not fixed.all():
        atoms.set_tags(np.where(fixed, 0, 1))
        return 1
    atoms.set_tags(0)
    return 2
