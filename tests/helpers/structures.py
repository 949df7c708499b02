"""Small structures, a small model configuration, and both as the model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111
from torch import Tensor
from torch_geometric.data import Batch, Data

from ev2_plugin.model.batch import AtomBatch, build_batch
from ev2_plugin.model.config import ModelConfig

TINY = ModelConfig(
    avg_num_nodes=5.0,
    avg_degree=7.0,
    lmax=2,
    mmax=1,
    num_layers=2,
    sphere_channels=6,
    attn_hidden_channels=5,
    num_heads=2,
    attn_alpha_channels=4,
    attn_value_channels=3,
    ffn_hidden_channels=7,
    norm_type="layer_norm_sh",
    grid_resolution=8,
    edge_channels=8,
    max_num_elements=90,
    num_radial_basis=10,
    max_radius=4.0,
    max_neighbors=9,
    use_grid_mlp=True,
    alpha_drop=0.0,
    drop_path_rate=0.0,
    weight_init="uniform",
)
"""Every width is different, so that no two axes can be mistaken for each other."""

GATE = replace(TINY, use_gate_act=True, use_grid_mlp=False)
"""Without sphere grids: equivariant to rounding."""


def slab() -> Atoms:
    """Rattled copper slab with CO, periodic in the plane."""
    atoms = fcc111("Cu", size=(2, 2, 2), vacuum=5.0)
    add_adsorbate(atoms, "O", 2.4, "fcc", offset=0.1)
    add_adsorbate(atoms, "C", 1.3, "fcc", offset=0.1)
    atoms.rattle(0.08, seed=1)
    return atoms


def crystal() -> Atoms:
    """Skewed, rattled NaCl cell, smaller than the cutoff, atoms outside it."""
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.rattle(0.1, seed=2)
    atoms.positions[1] += 2 * atoms.cell[0] - atoms.cell[2]
    return atoms


def molecule() -> Atoms:
    """Ethanol-like chain, not periodic; its cell is zero."""
    positions = [[0, 0, 0], [1.5, 0.1, 0], [2.1, 1.3, 0.2], [-0.5, 0.9, -0.4], [-0.4, -0.8, 0.6], [3.0, 1.2, 0.5]]
    return Atoms("CCOHHH", positions=positions)


def single_atom() -> Atoms:
    """One atom that sees nothing."""
    return Atoms("Fe", positions=[[0.3, -2.0, 11.0]])


def two_far_atoms() -> Atoms:
    """Two atoms beyond the cutoff of each other."""
    return Atoms("HHe", positions=[[0, 0, 0], [0, 30.0, 0]])


def wire() -> Atoms:
    """Periodic along y only: edges lie on +y and -y exactly."""
    return Atoms("AuAg", positions=[[0, 0, 0], [0, 2.5, 0]], cell=[0, 5.2, 0], pbc=[False, True, False])


def assorted() -> list[Atoms]:
    """A batch of mixed periodicity, atoms without edges included."""
    return [slab(), molecule(), single_atom(), crystal(), wire(), two_far_atoms()]


def rotated(atoms: Atoms, rotation: Tensor) -> Atoms:
    """The structure with positions and cell turned."""
    turn = rotation.double().numpy().T
    out = atoms.copy()
    out.set_cell(atoms.cell.array @ turn)
    out.positions = atoms.positions @ turn
    return out


def tensors(structures: Sequence[Atoms], dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Atomic numbers, positions, cells, periodicity and numbers of atoms."""
    return (
        torch.tensor(np.concatenate([atoms.numbers for atoms in structures])),
        torch.tensor(np.concatenate([atoms.positions for atoms in structures])).to(dtype),
        torch.tensor(np.stack([atoms.cell.array for atoms in structures])).to(dtype),
        torch.tensor(np.stack([atoms.pbc for atoms in structures])),
        torch.tensor([len(atoms) for atoms in structures]),
    )


def atom_batch(
    structures: Atoms | Sequence[Atoms], config: ModelConfig = TINY, dtype: torch.dtype = torch.float64
) -> AtomBatch:
    """Structures with their edges."""
    structures = [structures] if isinstance(structures, Atoms) else structures
    return build_batch(*tensors(structures, dtype), config)


def host_batch(structures: Sequence[Atoms], dtype: torch.dtype = torch.float32, **extra: Any) -> Batch:
    """Structures as the host's data sets and collater hand them to a model."""
    samples = [
        Data(
            pos=torch.tensor(atoms.positions).to(dtype),
            atomic_numbers=torch.tensor(atoms.numbers, dtype=torch.float32),
            cell=torch.tensor(atoms.cell.array).to(dtype).view(1, 3, 3),
            pbc=torch.tensor(atoms.pbc),
            natoms=len(atoms),
        )
        for atoms in structures
    ]
    batch = Batch.from_data_list(samples)
    for key, value in extra.items():
        setattr(batch, key, value)
    return batch
