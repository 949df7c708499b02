"""Sums and maxima over the atoms of each structure of a batch.

One structure's result does not depend on the others in the batch, and nothing is summed with atomics.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def dot(
    a: Float[Tensor, "atoms 3"], b: Float[Tensor, "atoms 3"], natoms: Int[Tensor, " structures"]
) -> Float[Tensor, " structures"]:
    """Scalar product of two vectors of each structure's 3 x atoms components."""
    return torch.segment_reduce((a * b).sum(dim=-1), "sum", lengths=natoms)


def largest(lengths: Float[Tensor, " atoms"], natoms: Int[Tensor, " structures"]) -> Float[Tensor, " structures"]:
    """Largest of the values of each structure's atoms."""
    return torch.segment_reduce(lengths, "max", lengths=natoms)


def spread(values: Tensor, natoms: Int[Tensor, " structures"]) -> Tensor:
    """Give each atom the value of its structure, as a column to multiply vectors with; [atoms, 1]."""
    return torch.repeat_interleave(values, natoms).unsqueeze(-1)
