"""A batch of structures as plain tensors, and ASE's form of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from ase.constraints import FixAtoms
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Structures:
    """One structure or more, atoms one after the other.

    Attributes:
        ids: Name of each structure. Whoever evaluates one name again and again may keep what it found.
        atomic_numbers: [atoms].
        positions: Å, [atoms, 3]; their dtype is that of a relaxation's positions.
        cells: Lattice vectors as rows in Å, [structures, 3, 3].
        pbc: Periodic directions, [structures, 3].
        natoms: Atoms of each structure, [structures].
        fixed: Atoms that relaxations leave in place, [atoms].
        tags: 0 below the surface, 1 surface, 2 adsorbate, [atoms].
    """

    ids: tuple[str, ...]
    atomic_numbers: Tensor
    positions: Tensor
    cells: Tensor
    pbc: Tensor
    natoms: Tensor
    fixed: Tensor
    tags: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def batch(self) -> Tensor:
        """Structure of each atom, [atoms]."""
        numbers = torch.arange(len(self), device=self.natoms.device)
        return torch.repeat_interleave(numbers, self.natoms, output_size=len(self.positions))

    def moved_to(self, positions: Float[Tensor, "atoms 3"]) -> Structures:
        """The same structures with their atoms elsewhere (Å)."""
        return replace(self, positions=positions)

    def to(self, device: torch.device | str) -> Structures:
        """The same structures on another device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return Structures(ids=self.ids, **moved)

    def select(self, which: Sequence[int]) -> Structures:
        """Some of the structures, in the order asked for."""
        atoms = rows_of(self.natoms, which)
        chosen = torch.as_tensor(which, dtype=torch.long, device=self.natoms.device)
        return Structures(
            ids=tuple(self.ids[index] for index in which),
            atomic_numbers=self.atomic_numbers[atoms],
            positions=self.positions[atoms],
            cells=self.cells[chosen],
            pbc=self.pbc[chosen],
            natoms=self.natoms[chosen],
            fixed=self.fixed[atoms],
            tags=self.tags[atoms],
        )


def rows_of(natoms: Tensor, which: Sequence[int]) -> Tensor:
    """Indices of the atoms of some structures, [chosen atoms].

    Args:
        natoms: Atoms of each structure, [structures].
        which: Structures, in the order wanted.
    """
    chosen = torch.as_tensor(which, dtype=torch.long, device=natoms.device)
    ends = natoms.cumsum(0)
    counts = natoms[chosen]
    starts_there = torch.repeat_interleave((ends - natoms)[chosen], counts)
    starts_here = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    return torch.arange(len(starts_here), device=natoms.device) - starts_here + starts_there


def join(parts: Sequence[Structures]) -> Structures:
    """Several batches as one.

    Raises:
        ValueError: If there are none.
    """
    if not parts:
        raise ValueError("no structures to join")
    tensors = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name, value in vars(parts[0]).items()
        if isinstance(value, Tensor)
    }
    return Structures(ids=tuple(one for part in parts for one in part.ids), **tensors)


def from_atoms(structures: Sequence[Atoms], ids: Sequence[str]) -> Structures:
    """Take structures from ASE, positions in float64.

    Args:
        structures: Constraints may be `FixAtoms` only; cells may lack vectors in directions that are not periodic.
        ids: A name for each.

    Raises:
        ValueError: If there is a constraint of another kind, or a cell vector of a periodic direction is missing.
    """
    return Structures(
        ids=tuple(ids),
        atomic_numbers=torch.cat([torch.from_numpy(one.numbers.astype(np.int64)) for one in structures]),
        positions=torch.cat([torch.from_numpy(np.array(one.positions, dtype=np.float64)) for one in structures]),
        cells=torch.stack([_cell(one, name) for one, name in zip(structures, ids, strict=True)]),
        pbc=torch.stack([torch.from_numpy(np.array(one.pbc)) for one in structures]),
        natoms=torch.tensor([len(one) for one in structures]),
        fixed=torch.cat([_fixed(one, name) for one, name in zip(structures, ids, strict=True)]),
        tags=torch.cat([torch.from_numpy(one.get_tags().astype(np.int64)) for one in structures]),
    )


def to_atoms(structures: Structures) -> list[Atoms]:
    """Hand structures to ASE; fixed atoms become `FixAtoms`."""
    natoms = structures.natoms.tolist()
    per_atom = [
        tensor.cpu().numpy()
        for tensor in (structures.atomic_numbers, structures.positions.double(), structures.fixed, structures.tags)
    ]
    ends = np.cumsum(natoms)
    found = []
    for index, (start, end) in enumerate(zip(ends - natoms, ends, strict=True)):
        numbers, positions, fixed, tags = (array[start:end] for array in per_atom)
        found.append(
            Atoms(
                numbers=numbers,
                positions=positions,
                cell=structures.cells[index].double().cpu().numpy(),
                pbc=structures.pbc[index].cpu().numpy(),
                tags=tags,
                constraint=FixAtoms(mask=fixed) if fixed.any() else None,
            )
        )
    return found


def _cell(atoms: Atoms, name: str) -> Tensor:
    missing = atoms.pbc & ~atoms.cell.any(axis=1)
    if missing.any():
        raise ValueError(f"structure {name}: periodic direction {int(missing.argmax())} has no cell vector")
    return torch.from_numpy(np.array(atoms.cell.complete().array, dtype=np.float64))


def _fixed(atoms: Atoms, name: str) -> Tensor:
    fixed = torch.zeros(len(atoms), dtype=torch.bool)
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            raise ValueError(
                f"structure {name}: atoms can be fixed by FixAtoms only, not by {type(constraint).__name__}"
            )
        fixed[torch.as_tensor(np.asarray(constraint.index))] = True
    return fixed
