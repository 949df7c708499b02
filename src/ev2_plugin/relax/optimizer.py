"""What an optimiser is: a rule for the next step and a memory that can be taken apart by structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ev2_plugin.potential.structures import rows_of


@dataclass(frozen=True)
class Memory:
    """What an optimiser knows of the past of each structure in a batch.

    Attributes:
        of_atoms: Tensors whose first axis is the batch's atoms.
        of_structures: Tensors whose first axis is its structures.
    """

    of_atoms: dict[str, Tensor]
    of_structures: dict[str, Tensor]

    def select(self, which: Sequence[int], natoms: Tensor) -> Memory:
        """Keep some of the structures.

        Args:
            which: Their places in the batch, in the order wanted.
            natoms: Atoms of each structure of the batch, [structures].
        """
        atoms = rows_of(natoms, which)
        chosen = torch.as_tensor(which, dtype=torch.long, device=natoms.device)
        return Memory(
            {name: tensor[atoms] for name, tensor in self.of_atoms.items()},
            {name: tensor[chosen] for name, tensor in self.of_structures.items()},
        )

    def to(self, device: torch.device) -> Memory:
        """The same on another device."""
        return Memory(
            {name: tensor.to(device) for name, tensor in self.of_atoms.items()},
            {name: tensor.to(device) for name, tensor in self.of_structures.items()},
        )


def join_memories(parts: Sequence[Memory]) -> Memory:
    """The memories of several batches as that of one."""
    first = parts[0]
    return Memory(
        {name: torch.cat([part.of_atoms[name] for part in parts]) for name in first.of_atoms},
        {name: torch.cat([part.of_structures[name] for part in parts]) for name in first.of_structures},
    )


@runtime_checkable
class Optimizer(Protocol):
    """A rule for the next step of each structure, which depends on no other structure of the batch."""

    def start(self, natoms: Tensor) -> Memory:
        """The memory of structures that have not moved yet; `natoms` [structures] says where and how large."""
        ...

    def step(self, memory: Memory, positions: Tensor, forces: Tensor, natoms: Tensor) -> tuple[Tensor, Memory]:
        """Displacements from here.

        Args:
            memory: Of the steps before.
            positions: Å, float64, [atoms, 3].
            forces: eV/Å, zero on fixed atoms, float64, [atoms, 3].
            natoms: Atoms of each structure, [structures].

        Returns:
            Displacements [atoms, 3] in Å, and the memory for the next step.
        """
        ...
