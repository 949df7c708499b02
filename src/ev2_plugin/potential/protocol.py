"""What a potential is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ev2_plugin.potential.structures import Structures


@dataclass(frozen=True)
class Prediction:
    """What a potential says about a batch of structures.

    Attributes:
        energy: eV, [structures].
        forces: eV/Å on all atoms, fixed ones included, [atoms, 3].
    """

    energy: Tensor
    forces: Tensor


@runtime_checkable
class Potential(Protocol):
    """Energies and forces of batches of structures.

    Whatever it raises besides a lack of memory is a fault of the structures or of the potential and ends a run.
    """

    @property
    def device(self) -> torch.device:
        """Where structures are wanted, and predictions are."""
        ...

    def __call__(self, structures: Structures) -> Prediction:
        """Energies and forces of a batch; each structure's do not depend on the others."""
        ...

    def num_edges(self, structures: Structures) -> list[int]:
        """Edges of each structure: what a batch is measured by. Where there are no edges, its atoms."""
        ...
