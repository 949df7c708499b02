"""What is wrong with one structure of a batch, said in its own terms: its atoms are counted from its first one."""

from __future__ import annotations

import torch
from torch import Tensor


class StructureError(ValueError):
    """A structure that cannot be right.

    Args:
        place: Its place in the batch.
        fault: What is wrong with it.
        name: How its owner calls it; its place if nobody says.
    """

    def __init__(self, place: int, fault: str, name: str | None = None) -> None:
        super().__init__(place, fault, name)  # all of them: so it can be handed to another process
        self.place, self.fault, self.name = place, fault, name

    def __str__(self) -> str:
        return f"{self.name or f'structure {self.place} of the batch'}: {self.fault}"

    def named(self, name: str) -> StructureError:
        """The same with the structure's name."""
        return StructureError(self.place, self.fault, name)


def place_of_atom(atom: int, natoms: Tensor) -> tuple[int, int]:
    """The structure of an atom, and the atom's number in it.

    Args:
        atom: Counted over the batch.
        natoms: Atoms of each structure, [structures].
    """
    ends = natoms.cumsum(0)
    place = int(torch.searchsorted(ends, torch.tensor(atom, device=ends.device), right=True))
    return place, atom - int(ends[place] - natoms[place])
