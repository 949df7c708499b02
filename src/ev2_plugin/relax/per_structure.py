"""Sums and maxima over the atoms of each structure of a batch.

One structure's result does not depend on the others in the batch, nothing is summed with atomics, and nothing here
waits for the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """Which atoms belong to which structure.

    Attributes:
        natoms: Atoms of each structure, [structures]; their atoms follow one another.
        structure: Structure of each atom, [atoms].
    """

    natoms: Tensor
    structure: Tensor

    def sum(self, values: Float[Tensor, " atoms"]) -> Float[Tensor, " structures"]:
        """Sum over each structure's atoms."""
        return torch.segment_reduce(values, "sum", lengths=self.natoms, unsafe=True)

    def largest(self, values: Float[Tensor, " atoms"]) -> Float[Tensor, " structures"]:
        """Largest of the values of each structure's atoms."""
        return torch.segment_reduce(values, "max", lengths=self.natoms, unsafe=True)

    def dot(self, a: Float[Tensor, "atoms 3"], b: Float[Tensor, "atoms 3"]) -> Float[Tensor, " structures"]:
        """Scalar product of two vectors of each structure's 3 x atoms components."""
        return self.sum((a * b).sum(dim=-1))

    def spread(self, values: Tensor) -> Tensor:
        """Give each atom the value of its structure, as a column to multiply vectors with; [atoms, 1]."""
        return values[self.structure].unsqueeze(-1)


def segments(natoms: Int[Tensor, " structures"], atoms: int) -> Segments:
    """Structures of `natoms` atoms each, `atoms` in all."""
    numbers = torch.arange(len(natoms), device=natoms.device)
    return Segments(natoms, torch.repeat_interleave(numbers, natoms, output_size=atoms))
