"""Initial structures of different sizes and periodicities with labels of their relaxed states, and configs on them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch
from ase import Atoms
from ase.build import fcc111, molecule
from ase.constraints import FixAtoms
from torch_geometric.data import Data

from ev2_plugin.data.structures import structure_to_data
from helpers import tiny_s2ef

SIDS = (31, 7, 100, 12, 5, 64)  # neither in the order of numbers nor in that of text


def starts() -> list[Atoms]:
    """Slabs periodic in three and in two directions, of two sizes, and a molecule."""
    rng = np.random.default_rng(1)
    made = []
    for index in range(len(SIDS) - 1):
        slab = fcc111("Cu", size=(2, 1 + index % 2, 2), vacuum=5.0, periodic=index % 3 != 2)
        slab.positions += rng.normal(scale=0.05 + 0.1 * (index % 3), size=slab.positions.shape)
        slab.set_constraint(FixAtoms(indices=[atom.index for atom in slab if atom.tag == 2]))
        made.append(slab)
    water = molecule("H2O", vacuum=2.0)
    water.positions += rng.normal(scale=0.1, size=water.positions.shape)
    return [*made, water]


def samples() -> list[Data]:
    """The starts as stored, with relaxed energies, and positions some of which are in another cell."""
    rng = np.random.default_rng(2)
    stored = []
    for sid, atoms in zip(SIDS, starts(), strict=True):
        data = structure_to_data(atoms, sid=sid)
        data.y_relaxed = float(rng.normal())
        relaxed = atoms.positions + rng.normal(scale=0.15, size=atoms.positions.shape)
        relaxed += rng.integers(-1, 2, size=relaxed.shape) * atoms.pbc @ atoms.cell.array
        data.pos_relaxed = torch.tensor(relaxed, dtype=torch.float32)
        stored.append(data)
    return stored


def write_set(folder: Path, stored: list[Data] | None = None) -> Path:
    """Write an LMDB, whatever is wrong with the structures; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "data.lmdb"
    with (
        lmdb.open(str(path), map_size=2**24, subdir=False, meminit=False, map_async=True) as environment,
        environment.begin(write=True) as transaction,
    ):
        for index, data in enumerate(samples() if stored is None else stored):
            transaction.put(str(index).encode(), pickle.dumps(data, protocol=-1))
    return path


def config(path: Path, **task: Any) -> dict[str, Any]:
    """A config that relaxes a set; `task` adds to its section."""
    made = tiny_s2ef.config({"format": "lmdb", "src": str(path)}, tiny_s2ef.FLAT_MODEL, "ev2_plugin.Trainer")
    made["dataset"] = {"train": {"format": "lmdb"}, "relax": made["dataset"]["relax"]}
    made["optim"]["load_balancing"] = None
    made["task"] |= {"relaxation_steps": 12, "relaxation_fmax": 0.018, **task}
    return made
