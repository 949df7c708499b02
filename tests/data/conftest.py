from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.constraints import FixAtoms
from torch_geometric.data import Data

from ev2_plugin.data.structures import structure_to_data


@pytest.fixture
def slab() -> Atoms:
    """Two layers of copper, the lower one fixed, with an oxygen atom on top."""
    atoms = fcc111("Cu", (2, 2, 2), vacuum=6.0)
    atoms.set_tags([0] * 4 + [1] * 4)
    atoms.append("O")
    atoms.positions[-1] = atoms.positions[7] + [0.0, 0.0, 1.8]
    atoms.set_tags([*atoms.get_tags()[:8], 2])
    atoms.pbc = True
    atoms.set_constraint(FixAtoms(mask=atoms.get_tags() == 0))
    return atoms


@pytest.fixture
def make_data(slab: Atoms) -> Callable[..., Data]:
    """Make labelled data objects that differ by sid and fid; keywords replace the labels."""

    def make(sid: int = 0, fid: int = 0, **labels: object) -> Data:
        rng = np.random.default_rng([sid, fid])
        defaults = {"energy": float(rng.normal()), "forces": rng.normal(size=(len(slab), 3))}
        return structure_to_data(slab, sid=sid, fid=fid, **(defaults | labels))

    return make
